"""Benchmark of a frame: encode, one step of both transformers, decode; in total and per stage."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
import numpy as np

from duplex.bench.codec import noise
from duplex.bench.timing import Percentiles, time_call
from duplex.errors import UsageError
from duplex.frame_model import FrameModel, Staged, split_columns
from duplex.options import SessionOptions

__all__ = ["FrameTimes", "fill_context", "time_contexts", "time_frame", "time_sessions"]

WARM_UP = 5
PREFILL_CHUNK = 64
"""Time steps per prefill call."""


@attrs.frozen(kw_only=True)
class FrameTimes:
    """Times of a step with ``sessions`` sessions and ``context`` frames of context; ``stages`` by name, where known."""

    sessions: int
    context: int
    frame_ms: float
    """The duration of a frame."""
    total: Percentiles
    stages: Mapping[str, Percentiles]

    @property
    def real_time(self) -> bool:
        """Whether the 99th percentile is below the duration of a frame."""
        return self.total.p99 < self.frame_ms

    def as_json(self) -> dict[str, object]:
        """Return it as plain values, ``"total_ms"`` and each stage's ``"..._ms"`` among them."""
        return {
            "sessions": self.sessions,
            "context": self.context,
            "total_ms": self.total.as_json(),
            **{f"{name}_ms": times.as_json() for name, times in self.stages.items()},
            "real_time": self.real_time,
        }


def time_frame(
    model: FrameModel, options: SessionOptions, *, sessions: int, context: int, frames: int, staged: bool = True
) -> FrameTimes:
    """Time ``frames`` steps of the first ``sessions`` slots on noise, from numpy to numpy.

    Each session starts with ``context`` frames of context, up to the model's own. The slots are free afterwards.

    :raises UsageError: if the model has fewer slots
    """
    if sessions > model.spec.capacity:
        raise UsageError(f"the model has {model.spec.capacity} slots, not {sessions}; load it with more sessions")
    slots = range(sessions)
    fill_context(model, options, slots, context)
    total = _steps(model, slots, frames)
    stages = _stages(model, slots, frames) if staged and isinstance(model, Staged) else {}
    return FrameTimes(
        sessions=sessions,
        context=context,
        frame_ms=1e3 * model.spec.frame_duration,
        total=Percentiles.of(total),
        stages={name: Percentiles.of(times) for name, times in stages.items()},
    )


def time_sessions(
    model: FrameModel, options: SessionOptions, ladder: Iterable[int], *, context: int, frames: int
) -> list[FrameTimes]:
    """Time a step for each number of sessions."""
    return [
        time_frame(model, options, sessions=sessions, context=context, frames=frames, staged=False)
        for sessions in ladder
    ]


def time_contexts(model: FrameModel, options: SessionOptions, *, frames: int) -> list[FrameTimes]:
    """Time a step of one session with an empty context, a quarter, half, and all of it."""
    contexts = [model.spec.context * part // 4 for part in (0, 1, 2, 4)]
    return [
        time_frame(model, options, sessions=1, context=context, frames=frames, staged=False) for context in contexts
    ]


def fill_context(model: FrameModel, options: SessionOptions, slots: Iterable[int], context: int) -> None:
    """Open slots, and prefill each with ``context`` frames of random tokens."""
    spec = model.spec
    generator = np.random.default_rng(0)
    sizes = [spec.text_vocabulary, *[spec.audio_vocabulary] * (spec.streams - 1)]
    tokens = np.stack([generator.integers(0, size, max(0, context - WARM_UP)) for size in sizes])
    for slot in slots:
        model.open(slot, options)
        for piece in split_columns(tokens, PREFILL_CHUNK):
            model.prefill(slot, piece)


def _steps(model: FrameModel, slots: Sequence[int], frames: int) -> list[float]:
    spec = model.spec
    pcm = np.resize(noise(spec.capacity + 31, spec.frame_size), (frames + WARM_UP, spec.capacity, spec.frame_size))
    active = np.zeros(spec.capacity, np.bool_)
    active[list(slots)] = True
    return [time_call(lambda heard=heard: model.step(heard, active)) for heard in pcm][WARM_UP:]


def _stages(model: Staged, slots: Sequence[int], frames: int) -> dict[str, list[float]]:
    """Return the seconds of each stage, in the order of a step."""
    calls: Mapping[str, Callable[[], None]] = model.stages(slots)
    rounds = [{name: time_call(call) for name, call in calls.items()} for _ in range(frames + WARM_UP)][WARM_UP:]
    found = {name: [times[name] for times in rounds] for name in calls}
    whole = found.pop("language_model")
    depth = [max(0.0, both - temporal) for both, temporal in zip(whole, found["temporal"], strict=True)]
    return {"encode": found["encode"], "temporal": found["temporal"], "depth": depth, **_decode_only(found)}


def _decode_only(found: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: times for name, times in found.items() if name == "decode"}
