"""What comes out of a step: a frame for each seat, and times for whoever observes."""

from collections.abc import Sequence
from typing import Protocol

from duplex.engine.time_line import PendingFrame
from duplex.frame_model import Frame, ModelSpec, StepResult

__all__ = ["Observer", "frame_of"]


class Observer(Protocol):
    """Receives timings, on the inference thread: it must be quick, and raise nothing."""

    def stepped(self, began: float, ended: float, frames: Sequence[PendingFrame]) -> None:
        """Take the times of a step, in seconds on the monotonic clock, and the user frames that it processed."""
        ...


def frame_of(spec: ModelSpec, slot: int, pending: PendingFrame, result: StepResult) -> Frame:
    """Return a slot's part of a step's result, with the user frame that it answers."""
    return Frame(
        at=spec.seconds(pending.index),
        user_pcm=pending.pcm,
        agent_pcm=result.pcm[slot].copy() if spec.agent_streams else None,
        text=int(result.text[slot]),
        agent=result.agent[slot].copy(),
        user=result.user[slot].copy(),
        heads=None if result.heads is None else result.heads[slot].copy(),
        inserted=pending.inserted,
    )
