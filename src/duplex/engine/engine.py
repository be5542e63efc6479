"""Many conversations on one model: slots, steps, and the one inference thread.

The rules of the thread, again and again: do a piece of every job that waits (open, restore or export a slot), then take
every seat that has a frame and somewhere to put its result, and advance them all in one step. A seat that has no frame
holds nobody up.
"""

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from duplex.engine.seat import Failed, Finished, Job, Seat
from duplex.errors import CapacityError, ClosedError, DuplexError, ModelError
from duplex.frame_model import Frame, FrameModel, SessionState, StepResult
from duplex.options import SessionOptions

__all__ = ["Engine", "Observer"]

Float32 = NDArray[np.float32]


class Observer(Protocol):
    """Is told how long things take, on the inference thread: it must be quick, and raise nothing."""

    def stepped(self, seconds: float, waited: Sequence[float]) -> None:
        """Take one step's seconds, and for each frame in it the seconds from its being given to its answer."""
        ...


class Engine:
    """The slots of one model, and the thread that steps them."""

    def __init__(self, model: FrameModel) -> None:
        self.model = model
        self.changed = threading.Condition()
        self._pcm = np.zeros((model.spec.capacity, model.spec.frame_size), np.float32)
        self._seats: dict[int, Seat] = {}
        self._stirred: dict[Seat, None] = {}
        """Seats that something may have to be done for: to look at all of them takes longer than a small step."""
        self._jobs: deque[Job] = deque()
        self._vacancy: list[Callable[[], None]] = []
        self._observers: list[Observer] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="duplex-inference", daemon=True)
        self._thread.start()

    @property
    def free(self) -> int:
        """How many more conversations fit."""
        return self.model.spec.capacity - len(self._seats)

    def open(
        self,
        options: SessionOptions,
        *,
        realtime: bool,
        notify: Callable[[], None],
        state: SessionState | None = None,
    ) -> Seat:
        """Take the lowest free slot. ``notify`` is called, from any thread, when there is something to take.

        :raises CapacityError: if there is none
        :raises ClosedError: if the engine has been closed
        :raises StateError: if the state's time line is damaged
        """
        with self.changed:
            if self._closing:
                raise ClosedError("the model has been closed; load it again")
            slot = next((n for n in range(self.model.spec.capacity) if n not in self._seats), None)
            if slot is None:
                raise CapacityError(
                    f"all {self.model.spec.capacity} places of the model are taken; load it with more sessions, "
                    "wait for one with Conversation(..., wait=seconds), or try again later"
                )
            seat = Seat(self, slot, realtime=realtime, notify=notify)
            if state is not None:
                seat.continue_from(state.tensors)
            self._seats[slot] = seat
            self._jobs.append(self._prepare(seat, options, state))
            self.changed.notify()
        return seat

    def stir(self, seat: Seat) -> None:
        """Look at a seat, which something has been done to (with the lock held)."""
        self._stirred[seat] = None
        self.changed.notify()

    def submit(self, job: Job) -> None:
        """Have a job done on the inference thread, a piece between two steps."""
        with self.changed:
            self._jobs.append(job)
            self.changed.notify()

    @contextmanager
    def vacancies(self, notify: Callable[[], None]) -> Generator[None]:
        """Have ``notify`` called, in a ``with`` block, whenever a slot has become free."""
        with self.changed:
            self._vacancy.append(notify)
        try:
            yield
        finally:
            with self.changed:
                self._vacancy.remove(notify)

    @contextmanager
    def observed(self, observer: Observer) -> Generator[None]:
        """Have an observer told of every step, in a ``with`` block; of the last one perhaps just after it."""
        with self.changed:
            self._observers.append(observer)
        try:
            yield
        finally:
            with self.changed:
                self._observers.remove(observer)

    def release(self, seat: Seat) -> None:
        """Free a seat's slot; its neighbours do not notice."""
        with self.changed:
            if seat.closed:
                return
            seat.closed = True
            seat.inbox.clear()
            seat.outbox.clear()
            if self._seats.get(seat.slot) is seat:
                del self._seats[seat.slot]
            waiting = list(self._vacancy)
        for notify in waiting:
            notify()

    def close(self) -> None:
        """End all conversations with :class:`ClosedError`, stop the thread and free the model."""
        with self.changed:
            if self._closing:
                return
            self._closing = True
            self.changed.notify()
        self._thread.join()
        with self.changed:
            for seat in self._seats.values():
                seat.put(Failed(ClosedError("the model was closed while the conversation was going on")))
            waiting = list(self._vacancy)
        for notify in waiting:
            notify()
        self.model.close()

    def _run(self) -> None:
        while True:
            with self.changed:
                while not (self._closing or self._jobs or self._stirred):
                    self.changed.wait()
                if self._closing:
                    return
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 -- nobody is left waiting for a thread that has died
                with self.changed:
                    self._jobs.clear()
                    seats = list(self._seats.values())
                self._fail(seats, error)

    def _turn(self) -> None:
        """Do a piece of every job, then one step."""
        for job in list(self._jobs):
            self._advance(job)
        with self.changed:
            batch = self._batch()
            for seat in batch:
                seat.unanswered.append(seat.inbox.popleft())
        if batch:
            self._step(batch)

    def _batch(self) -> list[Seat]:
        """Return whom the next step takes, end who has finished, and forget who wants nothing (with the lock held)."""
        batch: list[Seat] = []
        for seat in list(self._stirred):
            if seat.wants_step():
                batch.append(seat)
            elif seat.has_finished():
                seat.ending = False
                seat.put(Finished())
            elif not seat.postponed():
                del self._stirred[seat]
        return batch

    def _advance(self, job: Job) -> None:
        """Do one piece of a job; forget it when it is done."""
        if next(job, self) is self:
            with self.changed:
                self._jobs.remove(job)

    def _prepare(self, seat: Seat, options: SessionOptions, state: SessionState | None) -> Job:
        if seat.closed:
            return
        try:
            if state is None:
                self.model.open(seat.slot, options)
            else:
                self.model.restore(seat.slot, state)
        except Exception as error:  # noqa: BLE001 -- it belongs to the conversation that is being opened
            self._fail([seat], error)
        with self.changed:
            seat.ready = True
        yield

    def _step(self, batch: list[Seat]) -> None:
        began = time.monotonic()
        active = np.zeros(self.model.spec.capacity, np.bool_)
        for seat in batch:
            self._pcm[seat.slot], active[seat.slot] = seat.unanswered[-1].pcm, True
        try:
            given = [seat.unanswered[-1].since for seat in batch]
            result = self.model.step(self._pcm, active)
            ended = time.monotonic()
            made = [(seat, self._frame(seat, result)) for seat in batch if result.valid[seat.slot]]
            with self.changed:
                observers = list(self._observers)
                for seat, frame in made:
                    if not seat.closed:
                        seat.outbox.append(frame)
            for seat in batch:
                seat.wake()  # also when nothing came out: there is room for another frame
            for observer in observers:
                observer.stepped(ended - began, [ended - since for since in given])
        except Exception as error:  # noqa: BLE001 -- every conversation of the step is told
            self._fail(batch, error)

    def _frame(self, seat: Seat, result: StepResult) -> Frame:
        given = seat.unanswered.popleft()
        spec, slot = self.model.spec, seat.slot
        return Frame(
            at=spec.seconds(given.index),
            user_pcm=given.pcm,
            agent_pcm=result.pcm[slot].copy() if spec.agent_streams else None,
            text=int(result.text[slot]),
            agent=result.agent[slot].copy(),
            user=result.user[slot].copy(),
        )

    def _fail(self, seats: list[Seat], error: Exception) -> None:
        """End conversations whose state can no longer be trusted; each gets an error of its own to raise."""
        with self.changed:
            for seat in seats:
                seat.failed = True
                seat.put(Failed(_told(error)))


def _told(error: Exception) -> Exception:
    """Return what a conversation raises for an error of the model."""
    if isinstance(error, DuplexError):
        return copy.copy(error)
    told = ModelError(f"the model failed ({type(error).__name__}: {error}); start the conversation again")
    told.__cause__ = error
    return told
