"""The format of an exported slot.

A state holds a backend's tensors under names of its own, a prefix for the codec's and :data:`LANGUAGE_MODEL` for the
rest; a ring of past positions (:data:`CACHE` in its name) without its empty places, oldest first; and the session's
token log, from which any backend rebuilds what it cannot take over.
"""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared.slots import Slot
from duplex.errors import StateError
from duplex.frame_model import UNGENERATED, ModelSpec, SessionState
from duplex.options import SessionOptions

__all__ = [
    "AHEAD",
    "CACHE",
    "LANGUAGE_MODEL",
    "LOG",
    "Origin",
    "checked",
    "describe",
    "known_tokens",
    "options_of",
    "position_of",
    "take_log",
]

VERSION = "1"
CACHE = ".cache."
LOG = "log"
AHEAD = "ahead"
LANGUAGE_MODEL = "lm."


@attrs.frozen
class Origin:
    """What computed a state: another takes over only what does not depend on it."""

    backend: str
    numbers: str
    """The dtypes of weights and cache, in words."""
    fingerprint: str
    """Of the checkpoint."""

    def made(self, metadata: Mapping[str, str]) -> bool:
        """Return whether a state comes from the same backend and dtypes: then all of its tensors can be taken over."""
        return (metadata["backend"], metadata["dtype"]) == (self.backend, self.numbers)


def describe(slot: Slot, spec: ModelSpec, origin: Origin) -> dict[str, str]:
    """Return the metadata of a slot's state."""
    return {
        "version": VERSION,
        "backend": origin.backend,
        "dtype": origin.numbers,
        "fingerprint": origin.fingerprint,
        "options": json.dumps(attrs.asdict(slot.options)),
        "frames": str(slot.frames),
        "spec": json.dumps(attrs.asdict(spec)),
        "ahead": str(slot.ahead[0]),
    }


@contextmanager
def checked(metadata: Mapping[str, str], origin: Origin) -> Generator[None]:
    """Check that a state is of this format and checkpoint; what fails to be read in the block is damage.

    :raises StateError: if it is of another, or damaged
    """
    _check(metadata, origin.fingerprint)
    try:
        yield
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError, OverflowError) as error:
        raise StateError(f"the state is damaged ({error}); export it anew") from error


def _check(metadata: Mapping[str, str], fingerprint: str) -> None:
    if metadata.get("version") != VERSION:
        raise StateError(
            f"the state has format {metadata.get('version')!r}, this version reads {VERSION!r}; export it anew"
        )
    if metadata.get("fingerprint") != fingerprint:
        raise StateError("the state was taken from another checkpoint; load the same model and revision to go on")


def options_of(metadata: Mapping[str, str]) -> SessionOptions:
    """Return the options of the conversation."""
    return SessionOptions(**json.loads(metadata["options"]))


def known_tokens(state: SessionState, spec: ModelSpec) -> NDArray[np.int64]:
    """Return all tokens of the session, int64 ``[streams, n]``, with what was chosen ahead in the last columns."""
    log = state.tensors[LOG].astype(np.int64).T
    ring = state.tensors[f"{LANGUAGE_MODEL}tokens"].astype(np.int64)
    frames, delays = int(state.metadata["frames"]), spec.delays
    ahead = np.full((spec.streams, max(*delays, 1)), UNGENERATED, np.int64)
    user = 1 + spec.agent_streams
    for stream, delay in enumerate(delays):
        for column in range(ahead.shape[1]):
            time = log.shape[1] + column
            known = time < frames if stream >= user else time + delay <= frames
            if known:
                ahead[stream, column] = ring[stream, (time + delay) % ring.shape[1]]
    return np.concatenate([log, ahead], axis=1)


def position_of(cache: str) -> str:
    """Return the name of the tensor that counts a cache's positions."""
    return cache.partition(CACHE)[0] + ".position"


def take_log(slot: Slot, state: SessionState) -> None:
    """Make a slot's token log and count of frames those of a state."""
    for column in state.tensors[LOG]:
        slot.log.append(column.astype(np.int64))
    slot.frames = int(state.metadata["frames"])
