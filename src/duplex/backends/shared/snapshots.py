"""What an exported slot looks like, the same for every backend.

A state holds a backend's tensors under names of its own, a prefix for the codec's and :data:`LANGUAGE_MODEL` for the
rest; a ring of past positions (:data:`CACHE` in its name) without its empty places, oldest first; and the session's
token log, from which any backend rebuilds what it cannot take over.
"""

import json
from collections.abc import Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared.slots import Slot
from duplex.errors import StateError
from duplex.frame_model import UNGENERATED, ModelSpec, SessionState
from duplex.options import SessionOptions

__all__ = ["AHEAD", "CACHE", "LANGUAGE_MODEL", "LOG", "check", "describe", "known_tokens", "options_of", "position_of"]

VERSION = "1"
CACHE = ".cache."
LOG = "log"
AHEAD = "ahead"
LANGUAGE_MODEL = "lm."


def describe(slot: Slot, spec: ModelSpec, *, backend: str, dtype: str, fingerprint: str) -> dict[str, str]:
    """Return the metadata of a slot's state."""
    return {
        "version": VERSION,
        "backend": backend,
        "dtype": dtype,
        "fingerprint": fingerprint,
        "options": json.dumps(attrs.asdict(slot.options)),
        "frames": str(slot.frames),
        "spec": json.dumps(attrs.asdict(spec)),
        "ahead": str(slot.ahead[0]),
    }


def check(metadata: Mapping[str, str], fingerprint: str) -> None:
    """Check that a state is of this format, and of the checkpoint with this fingerprint.

    :raises StateError: if it is not
    """
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
