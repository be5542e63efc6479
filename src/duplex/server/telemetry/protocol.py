"""What a call and a server say to whoever traces them. Without a tracer there is nobody, and nothing is paid."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from prometheus_client import CollectorRegistry

from duplex.engine.results import Observer
from duplex.events import Lag
from duplex.frame_model import Frame
from duplex.server.telemetry.signals import Signals

__all__ = ["CallTrace", "Telemetry"]


class CallTrace(Protocol):
    """The trace of one call. Its methods queue, and never wait."""

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits, ``None`` if this call is not sampled."""
        ...

    def begin(self, session_id: str, model: str) -> None:
        """Note that the wait is over and the conversation begins."""
        ...

    def record(self, frame: Frame) -> None:
        """Take a time step, to find the sampled steps of the model that it was in."""
        ...

    def sent(self, began: int, size: int) -> None:
        """Note that a frame's audio has gone out in so many bytes; ``began`` (ns since 1970) is when coding began."""
        ...

    def lag(self, event: Lag) -> None:
        """Note that real time was lost."""
        ...

    def end(self, reason: str, *, failed: bool) -> None:
        """Note the end; whatever goes on ends with it."""
        ...


class Telemetry(Protocol):
    """Traces and metrics of a server."""

    @property
    def signals(self) -> Signals | None:
        """What other processes of the server can export in the same way, ``None`` if only this one can."""
        ...

    def call(self, wire: str, headers: Mapping[str, str]) -> CallTrace:
        """Return the trace of a call that arrives now; ``headers`` may name a trace that it belongs to."""
        ...

    def observer(self, model: str, *, alone: bool = False) -> Observer:
        """Return what samples the steps of a model, for the traces of calls, or alone as traces of their own."""
        ...

    def exporting(self, registry: CollectorRegistry) -> AbstractContextManager[None]:
        """Export until the block ends, the metrics of a registry among it; what waits then is sent."""
        ...
