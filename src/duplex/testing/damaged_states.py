"""The part of the conformance suite that is about damaged states: they hurt whoever brings them, and nobody else."""

# ruff: noqa: S101 -- a failed check is an AssertionError, as in any test

from collections.abc import Iterator

import numpy as np

from duplex.errors import StateError
from duplex.frame_model import FrameModel, SessionState
from duplex.testing.tracks import OPTIONS, Float32, Track, expect_same, restore

__all__ = ["check_damaged_states"]

_STEPS = 2
_INTEGERS = (-(2**31), 2**30)
"""Out of range of every vocabulary, ring and counter."""


def check_damaged_states(model: FrameModel, state: SessionState, alone: Track, heard: Float32) -> None:
    """Check that a state whose numbers are out of range is refused, or at most answers nonsense itself.

    ``alone`` is the conversation that slot 0 has with ``heard``; each damaged ``state`` that is taken is stepped beside
    it, in slot 1.

    :raises AssertionError: if the neighbour's conversation is changed or cannot go on
    """
    active = np.zeros(model.spec.capacity, np.bool_)
    active[:2] = True
    for what, damaged in _damaged(state):
        try:
            restore(model, 1, damaged)
        except StateError:
            continue
        model.open(0, OPTIONS)
        track = Track()
        for frame in heard[:_STEPS]:
            result = model.step(np.repeat(frame[None], model.spec.capacity, axis=0), active)
            assert 0 not in result.errors, f"beside a state with {what}, a neighbour's step failed: {result.errors[0]}"
            track.add(result, 0)
        count = len(track.time_steps)
        same = Track(alone.time_steps[:count], alone.tokens[:count], alone.pcm[:count])
        if count:
            expect_same(same, track, np.inf, f"beside a state with {what}")


def _damaged(state: SessionState) -> Iterator[tuple[str, SessionState]]:
    """Yield states with every integer tensor out of range, one at a time, and with all floating ones not finite."""
    for name, tensor in state.tensors.items():
        if tensor.dtype.kind == "i" and tensor.size:
            for value in _INTEGERS:
                changed = np.full_like(tensor, np.clip(value, *_limits(tensor.dtype)))
                yield f"{name!r} of {value}", _with(state, {name: changed})
    floats = {name: np.full_like(tensor, np.nan) for name, tensor in state.tensors.items() if tensor.dtype.kind == "f"}
    yield "NaN", _with(state, floats)


def _limits(dtype: "np.dtype[np.generic]") -> tuple[int, int]:
    largest = 2 ** (8 * dtype.itemsize - 1)
    return -largest, largest - 1


def _with(state: SessionState, tensors: dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]) -> SessionState:
    return SessionState(metadata=state.metadata, tensors={**state.tensors, **tensors})
