"""Which steps of a model are traced: one every few seconds, and slow ones.

A step belongs to every call that had a frame in it, and each call's trace tells it. The inference thread samples
whole steps; a call recognises its own frame in one by its samples, which are the same array on the way in and out. It
asks a frame later: a frame may be taken before the step's observers have been told.
"""

from collections import deque
from collections.abc import Callable, Sequence

import attrs

from duplex.engine.seat import PendingFrame
from duplex.frame_model import Frame

__all__ = ["SampledStep", "StepFinder", "StepSampler"]

KEPT = 4
"""Sampled steps that calls may still ask for."""
SLOW_EVERY = 1.0
"""Seconds between two steps that are sampled for being slow."""


@attrs.frozen(eq=False)
class SampledStep:
    """A step: its times in seconds on the monotonic clock, and the frames that were in it."""

    model: str
    began: float
    ended: float
    frames: Sequence[PendingFrame]
    slow: bool

    def find(self, frame: Frame) -> PendingFrame | None:
        """Return what waited for the step and became this frame."""
        return next((pending for pending in self.frames if pending.pcm is frame.user_pcm), None)


class StepSampler:
    """An observer of a model that keeps a step every ``seconds``, and those where a frame waited ``slow`` seconds."""

    def __init__(self, model: str, keep: Callable[[SampledStep], None], *, seconds: float, slow: float) -> None:
        self._model = model
        self._keep = keep
        self._seconds = seconds
        self._slow = slow
        self._due = self._slow_due = 0.0

    def stepped(self, began: float, ended: float, frames: Sequence[PendingFrame]) -> None:
        """Take the times of a step; on the inference thread."""
        slow = ended >= self._slow_due and any(ended - frame.since > self._slow for frame in frames)
        if ended < self._due and not slow:
            return
        if slow:
            self._slow_due = ended + SLOW_EVERY
        self._due = max(self._due, ended + self._seconds) if ended >= self._due else self._due
        self._keep(SampledStep(self._model, began, ended, tuple(frames), slow))


class StepFinder:
    """Finds the sampled steps that one call's frames were in."""

    def __init__(self, kept: "deque[SampledStep]") -> None:
        self._kept = kept
        self._previous: Frame | None = None

    def find(self, frame: Frame) -> tuple[SampledStep, PendingFrame] | None:
        """Take the call's next frame; return the step of the one before it, if that was sampled."""
        previous, self._previous = self._previous, frame
        if previous is None:
            return None
        found = ((step, step.find(previous)) for step in tuple(self._kept))
        return next(((step, pending) for step, pending in found if pending is not None), None)
