"""What goes into a step of the model from the seats that have a frame, and what each of them gets out of it."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from duplex.engine.outcomes import ScriptProgress
from duplex.engine.results import frame_of
from duplex.engine.seat import Seat
from duplex.frame_model import EndOfSource, Frame, FrameModel, ModelSpec, StepResult

__all__ = ["SteppedFrames", "deliver", "end_sources"]


class SteppedFrames:
    """The frames of one step after another, on the inference thread."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self.pcm: NDArray[np.float32] = np.zeros((spec.capacity, spec.frame_size), np.float32)
        """Of all slots, float32 ``[capacity, frame_size]``."""

    def put(self, batch: Iterable[Seat]) -> NDArray[np.bool_]:
        """Put in what each seat has in flight last; return who takes part, bool ``[capacity]``."""
        active = np.zeros(self._spec.capacity, np.bool_)
        for seat in batch:
            self.pcm[seat.slot], active[seat.slot] = seat.in_flight[-1].pcm, True
        return active

    def take(self, batch: Iterable[Seat], result: StepResult) -> list[tuple[Seat, Frame]]:
        """Return the frames that come out, with the user's that they answer, which are in flight no longer."""
        return [
            (seat, frame_of(self._spec, seat.slot, seat.in_flight.popleft(), result))
            for seat in batch
            if result.valid[seat.slot] and result.time_step[seat.slot] >= seat.prompted
        ]


def end_sources(model: FrameModel, batch: Iterable[Seat]) -> None:
    """Tell the model of those seats whose source ends with this step."""
    for seat in batch:
        if seat.in_flight[-1].ends_source and isinstance(model, EndOfSource):
            model.end_source(seat.slot)
            seat.source_ended = True


def deliver(batch: Iterable[Seat], frames: Sequence[tuple[Seat, Frame]], result: StepResult) -> None:
    """Give each seat its results (with the engine's lock held)."""
    if result.script is not None:
        for seat in batch:
            if not seat.closed:
                seat.outbox.append(ScriptProgress(*result.script[seat.slot].tolist()))
    for seat, frame in frames:
        if not (seat.closed or seat.translated):
            seat.outbox.append(frame)
            seat.note_translation(frame.text)
