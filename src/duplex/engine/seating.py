"""What gives conversations their seats: the engine of this process, or one that another process has."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from duplex.engine.engine import Engine
from duplex.engine.outcomes import Outcome
from duplex.engine.results import Observer
from duplex.engine.seat import Seat
from duplex.engine.subscribers import Subscribers
from duplex.frame_model import SessionState
from duplex.options import SessionOptions
from duplex.prompting.prompt import Prompt

__all__ = ["EngineSeating", "HeldSeat", "Seating"]


class HeldSeat(Protocol):
    """A seat as its conversation knows it; :class:`duplex.engine.seat.Seat` says what each of these does."""

    flush: int
    """Frames of silence that follow the last one."""

    @property
    def ready(self) -> bool:
        """Whether the slot has been prepared, or has failed to be."""
        ...

    @property
    def index(self) -> int:
        """Index on the time line of the frame that is pushed next."""
        ...

    @property
    def translated(self) -> bool:
        """Whether a model that translates has nothing to add."""
        ...

    @property
    def waiting(self) -> int:
        """Number of frames that wait for the model."""
        ...

    def push(self, pcm: NDArray[np.float32]) -> None:
        """Queue the next user frame, float32 ``[frame_size]``."""
        ...

    def insert_silence(self, frames: int) -> None:
        """Queue silence that takes no time on the time line."""
        ...

    def skip(self, frames: int) -> None:
        """Advance the time line by frames that the model does not process."""
        ...

    def end_source(self) -> None:
        """Tell a model that translates that the source has ended."""
        ...

    def finish(self) -> None:
        """Mark the end of the user's audio."""
        ...

    def take(self) -> Sequence[Outcome]:
        """Remove and return all results so far."""
        ...

    def export(self) -> None:
        """Export the slot's state at the next frame boundary."""
        ...

    def close(self) -> None:
        """Free the slot at once, and discard results that were not taken."""
        ...

    def abandon(self) -> None:
        """Free the slot soon; a finalizer may call it, wherever it runs."""
        ...


class Seating(Protocol):
    """The seats of one model."""

    vacancies: Subscribers[Callable[[], None]]
    """Called whenever a slot becomes free."""

    @property
    def free(self) -> int:
        """Number of free slots."""
        ...

    @property
    def late(self) -> bool:
        """Whether the model's present step takes so long that nobody new should be let in."""
        ...

    def observed(self, observer: Observer) -> AbstractContextManager[None]:
        """Tell an observer of the steps that are made in this process, for the duration of a ``with`` block."""
        ...

    async def take_seat(
        self,
        options: SessionOptions,
        *,
        realtime: bool,
        notify: Callable[[], None],
        state: SessionState | None = None,
        prompt: Prompt | None = None,
    ) -> HeldSeat:
        """Take a free slot, as :meth:`duplex.engine.engine.Engine.open` does, and with the same errors."""
        ...


class EngineSeating:
    """The seats of an engine of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.vacancies: Subscribers[Callable[[], None]] = engine.vacancies

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self._engine.free

    @property
    def late(self) -> bool:
        """Whether the model's present step takes so long that nobody new should be let in."""
        return self._engine.watchdog.late

    def observed(self, observer: Observer) -> AbstractContextManager[None]:
        """Tell an observer of every step, for the duration of a ``with`` block."""
        return self._engine.observed(observer)

    async def take_seat(
        self,
        options: SessionOptions,
        *,
        realtime: bool,
        notify: Callable[[], None],
        state: SessionState | None = None,
        prompt: Prompt | None = None,
    ) -> Seat:
        """Take the lowest free slot, at once; see :meth:`duplex.engine.engine.Engine.open`."""
        return self._engine.open(options, realtime=realtime, notify=notify, state=state, prompt=prompt)
