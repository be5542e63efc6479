"""One conversation's state in the model without weights, and how it is saved."""

from collections import deque
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared import delays as delay_rules
from duplex.backends.shared.slots import LONGEST_LIFE
from duplex.errors import StateError
from duplex.frame_model import OPTIONS_KEY, ZERO, ModelSpec, SessionState
from duplex.options import SessionOptions
from duplex.parsing import parse_json
from duplex.testing.fake_tokens import WORD

__all__ = ["FakeSlot", "saved", "slot_of"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
_FORMAT = "1"


@attrs.define(eq=False)
class FakeSlot:
    """One conversation's state."""

    options: SessionOptions
    ring: Int64
    """The last indices of the delayed sequences, ``[streams, ring_length]``."""
    memory: int = 0
    """What is left of all tokens that were read, 64 bits."""
    frames: int = 0
    heard: deque[Float32] = attrs.Factory(deque[Float32])
    """The user's frames whose time step has not come out."""
    known: dict[tuple[int, int], int] = attrs.Factory(dict[tuple[int, int], int])
    """Tokens that a prompt fixed for steps to come, by stream and index; until the next frame of audio."""

    def remember(self, read: Int64) -> int:
        """Take in tokens that a step reads; return what is left of all so far, 64 bits."""
        for token in read.tolist():
            self.memory = ((self.memory ^ (token + 3)) * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & WORD
        return self.memory


def saved(held: FakeSlot, fingerprint: str, spec: ModelSpec) -> SessionState:
    """Return a slot's state; its arrays are copied when they are read."""
    metadata = {
        "version": _FORMAT,
        "backend": "fake",
        "fingerprint": fingerprint,
        OPTIONS_KEY: held.options.to_json(),
    }
    known = [[*place, token] for place, token in held.known.items()]
    tensors: dict[str, NDArray[np.generic]] = {
        "ring": held.ring.copy(),
        "memory": np.array([held.memory], np.uint64),
        "frames": np.array([held.frames], np.int64),
        "heard": np.array(held.heard, np.float32).reshape(-1, spec.frame_size),
        "known": np.array(known, np.int64).reshape(-1, 3),
    }
    return SessionState(metadata=metadata, tensors=tensors)


def slot_of(state: SessionState, fingerprint: str, spec: ModelSpec) -> FakeSlot:
    """Return the slot that was :func:`saved`.

    :raises StateError: if it belongs to another model or is damaged
    """
    if state.metadata.get("version") != _FORMAT or state.metadata.get("fingerprint") != fingerprint:
        raise StateError("the state was taken from another model; make one with the same options to go on")
    try:
        return _read(state, spec)
    except (KeyError, ValueError, IndexError, TypeError, OverflowError) as error:
        raise StateError(f"the state is damaged ({error}); export it anew") from error


def _read(state: SessionState, spec: ModelSpec) -> FakeSlot:
    tensors, length = state.tensors, delay_rules.ring_length(spec.delays)
    ring = cast("Int64", np.array(tensors["ring"])).reshape(spec.streams, length)
    heard = np.array(tensors["heard"], np.float32).reshape(-1, spec.frame_size)
    known, frames = np.array(tensors["known"]).reshape(-1, 3), int(tensors["frames"][0])
    spec.check_tokens(ring)
    for stream, _, token in known.tolist():
        sizes = [spec.text_vocabulary] + [spec.audio_vocabulary] * spec.agent_streams
        if stream < 0 or not ZERO <= token < sizes[stream]:
            raise ValueError("a known token is out of range")
    if not 0 <= frames < LONGEST_LIFE or not np.isfinite(heard).all():
        raise ValueError("its numbers are out of range")
    options: dict[str, Any] = parse_json(state.metadata[OPTIONS_KEY])
    return FakeSlot(
        options=SessionOptions(**options),
        ring=ring,
        memory=int(tensors["memory"][0]) & WORD,
        frames=frames,
        heard=deque(heard),
        known={(stream, index): token for stream, index, token in known.tolist()},
    )
