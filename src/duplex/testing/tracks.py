"""Conversations with a bare frame model, and their outputs: the tools of its conformance suite."""

# ruff: noqa: S101 -- a failed check is an AssertionError, as in any test

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.frame_model import FrameModel, ModelSpec, SessionState, StepResult, split_columns
from duplex.options import SessionOptions

__all__ = [
    "OPTIONS",
    "Make",
    "Track",
    "expect_same",
    "loaded",
    "pieces_of_restore",
    "prefilled",
    "random_tokens",
    "read_state",
    "restore",
    "run_conversation",
    "run_frames",
    "speech",
]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Make = Callable[[int], FrameModel]

OPTIONS = SessionOptions(temperature=0.9, text_temperature=0.8, top_k=8, text_top_k=0, seed=2**63 + 5)


@attrs.define(eq=False)
class Track:
    """The outputs of one conversation."""

    time_steps: list[int] = attrs.Factory(list[int])
    tokens: list[Int64] = attrs.Factory(list[Int64])
    pcm: list[Float32] = attrs.Factory(list[Float32])

    def add(self, result: StepResult, slot: int) -> None:
        """Append a slot's row of a step's result, if it is valid."""
        if result.valid[slot]:
            self.time_steps.append(int(result.time_step[slot]))
            text = result.text[slot : slot + 1]
            self.tokens.append(np.concatenate([text, result.agent[slot], result.user[slot]]))
            self.pcm.append(result.pcm[slot].copy())

    def copy(self) -> "Track":
        """Return one that goes on by itself."""
        return Track([*self.time_steps], [*self.tokens], [*self.pcm])


@contextmanager
def loaded(make: Make, capacity: int) -> Generator[FrameModel]:
    """Load a model, and close it at the end of the block."""
    model = make(capacity)
    try:
        yield model
    finally:
        model.close()


def speech(spec: ModelSpec, frames: int) -> Float32:
    """Return noise whose level rises and falls, float32 ``[frames, frame_size]``."""
    noise = np.random.default_rng(0).normal(0, 0.1, (frames, spec.frame_size))
    return (noise * (1 + np.sin(np.arange(frames)))[:, None]).astype(np.float32)


def run_frames(model: FrameModel, slot: int, heard: Sequence[Float32] | Float32, track: Track) -> Track:
    """Step a slot with frames, each in the same array; append the outputs to its track, and return it."""
    spec = model.spec
    pcm, active = np.zeros((spec.capacity, spec.frame_size), np.float32), np.zeros(spec.capacity, np.bool_)
    active[slot] = True
    for frame in heard:
        pcm[slot] = frame
        track.add(model.step(pcm, active), slot)
    return track


def run_conversation(model: FrameModel, slot: int, heard: Float32) -> Track:
    """Open a slot and step it with frames; return its track."""
    model.open(slot, OPTIONS)
    return run_frames(model, slot, heard, Track())


def random_tokens(spec: ModelSpec, columns: int) -> Int64:
    """Return tokens that the model would hardly have chosen, ``[streams, columns]``."""
    random = np.random.default_rng(columns)
    sizes = [spec.text_vocabulary, *[spec.audio_vocabulary] * (spec.streams - 1)]
    return np.stack([random.integers(0, size, columns) for size in sizes])


def prefilled(model: FrameModel, tokens: Int64, columns: int, heard: Float32) -> Track:
    """Prefill a slot in pieces of at most so many columns, then go on with audio."""
    model.open(2, OPTIONS)
    for piece in split_columns(tokens, columns):
        model.prefill(2, piece)
    return run_frames(model, 2, heard, Track())


def read_state(state: SessionState) -> SessionState:
    """Return a state with all of its tensors copied."""
    for name, value in state.metadata.items():
        assert isinstance(value, str), f"state.metadata[{name!r}] is {type(value).__name__}, not str"  # pyright: ignore[reportUnnecessaryIsInstance]
    tensors = {name: np.array(state.tensors[name]) for name in state.tensors}
    return SessionState(metadata=dict(state.metadata), tensors=tensors)


def restore(model: FrameModel, slot: int, state: SessionState) -> None:
    """Restore a slot, all pieces at once."""
    for _ in pieces_of_restore(model, slot, state):
        pass


def pieces_of_restore(model: FrameModel, slot: int, state: SessionState) -> Iterator[None]:
    """Return the pieces in which a slot is restored."""
    pieces = model.restore(slot, state)
    assert isinstance(pieces, Iterator), f"restore returned {pieces!r}, not an iterator whose steps are its pieces"  # pyright: ignore[reportUnnecessaryIsInstance]
    return pieces


def expect_same(one: Track, other: Track, tolerance: float, where: str) -> None:
    """Check that two conversations gave the same tokens, and the same sound within a tolerance."""
    assert one.time_steps == other.time_steps, f"{where}: time steps {other.time_steps}, not {one.time_steps}"
    differing = [
        step for step, a, b in zip(one.time_steps, one.tokens, other.tokens, strict=True) if not np.array_equal(a, b)
    ]
    assert not differing, f"{where}: other tokens than alone in slot 0 of 1, from time step {differing[0]}"
    error = float(np.abs(np.array(one.pcm) - np.array(other.pcm)).max())
    assert error <= tolerance, f"{where}: the agent's audio differs by {error:.2g}, more than {tolerance:.2g}"
