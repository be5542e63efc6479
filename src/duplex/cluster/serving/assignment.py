"""What every replica is told: which models it holds, its rules, and where it listens."""

import contextlib
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal, Protocol

import attrs

import duplex
from duplex.engine.model import Model
from duplex.server.listening import Listening
from duplex.server.settings import Settings, is_loopback
from duplex.transcription.loading import load_transcriber
from duplex.transcription.protocol import Transcriber

__all__ = ["Assignment", "Held", "Loading", "ModelLoading"]

LONGEST_CALL = 6 * 3600.0
"""Seconds that a replica which is to go waits for its last call, where calls have no limit."""


@attrs.frozen
class Held:
    """What a replica has loaded."""

    models: Sequence[Model]
    transcriber: Transcriber | None = None


class Loading(Protocol):
    """Loads what a replica holds. It is sent to the cluster's machines, so it holds nothing itself."""

    def opened(self) -> contextlib.AbstractContextManager[Held]:
        """Give what is loaded, until the block ends.

        :raises DuplexError: if it cannot be loaded
        """
        ...


@attrs.frozen(kw_only=True)
class ModelLoading:
    """Loads models by name, with the arguments of :func:`duplex.load` for each, and a transcriber if one is named."""

    models: Sequence[tuple[str, Mapping[str, Any]]]
    transcriber: str | None = None

    @contextlib.contextmanager
    def opened(self) -> Generator[Held]:
        """Give what is loaded."""
        with ExitStack() as loaded:
            transcriber = None
            if self.transcriber is not None:
                sessions = sum(int(arguments.get("sessions", 1)) for _, arguments in self.models)
                transcriber = loaded.enter_context(load_transcriber(self.transcriber, sessions=sessions))
            models = [loaded.enter_context(duplex.load(name, **arguments)) for name, arguments in self.models]
            yield Held(models, transcriber)


@attrs.frozen(kw_only=True)
class Assignment:
    """What every replica is told."""

    loading: Loading
    settings: Settings
    listening: Listening
    """Where the ingress listens; a replica does so on a free port, on the loopback address if the ingress does, else
    on that of its machine."""
    origins: tuple[str, ...] = ()
    """Origins of the ingress's page."""
    log_format: Literal["text", "json"] = "text"
    """Of a replica's log, which Ray keeps in a file on its machine."""
    folder: str = attrs.field(factory=os.getcwd)
    """Where the command was given, for paths that are relative to it."""

    @property
    def grace(self) -> float:
        """Seconds that a replica which is to go waits for its last call."""
        return self.settings.session_limit or LONGEST_CALL

    def at(self, address: str) -> tuple[Settings, Listening]:
        """Return the rules of a replica on the machine of an address, and where it listens."""
        host = self.listening.host if is_loopback(self.listening.host) else address
        where = attrs.evolve(self.listening, host=host, port=0, drain=self.grace)
        named = (*self.settings.hosts, f"[{host}]" if ":" in host else host) if self.settings.hosts else ()
        hosts = where.hosts(attrs.evolve(self.settings, hosts=named))
        origins = (*self.settings.origins, *self.origins)
        return attrs.evolve(self.settings, hosts=hosts, origins=origins, move_to=()), where
