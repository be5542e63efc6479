"""Many conversations on one model: slots, steps, and the one inference thread.

The inference thread's loop: advance one pending job (open, restore or export a slot) by one piece, then batch every
seat that has a frame and room for its result, and run them all in one step. So a step waits for one piece at most,
however many jobs there are; jobs take turns. A seat without a frame delays no other.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from duplex.backends.shared.process import OwnProcess
from duplex.engine.beginnings import Beginnings
from duplex.engine.failures import conversation_error, undone
from duplex.engine.jobs import Jobs
from duplex.engine.outcomes import Finished
from duplex.engine.results import Observer
from duplex.engine.scoring import Scoring
from duplex.engine.seat import Job, Seat
from duplex.engine.stepped_frames import SteppedFrames, deliver, end_sources
from duplex.engine.subscribers import Subscribers
from duplex.engine.watchdog import Watchdog
from duplex.errors import CapacityError, ClosedError, ModelStalledError
from duplex.frame_model import Conditions, FrameModel, SessionState
from duplex.options import SessionOptions
from duplex.prompting.prompt import Prompt

__all__ = ["Engine"]

logger: logging.Logger = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0
"""Seconds to wait for the last step when closing."""
ABANDON_SECONDS = 1.0
"""Seconds that a finalizer waits for the lock: whoever holds it may wait for the thread that the finalizer runs in."""


class Engine:
    """The slots of one model, and the thread that steps them."""

    def __init__(self, model: FrameModel) -> None:
        self.model = model
        self.changed: threading.Condition = threading.Condition()
        self._stepped = SteppedFrames(model.spec)
        self._process = OwnProcess()
        self._beginnings = Beginnings(model)
        self._seats: dict[int, Seat] = {}
        self._abandoned: deque[Seat] = deque()
        """Seats that a finalizer has given up, and that nobody has released yet."""
        self._changed_seats: dict[Seat, None] = {}
        """Seats that may have something to do; checking all of them would take longer than a small step."""
        self.vacancies: Subscribers[Callable[[], None]] = Subscribers()
        """Called whenever a slot becomes free: ``with engine.vacancies(notify): ...``."""
        self.observed: Subscribers[Observer] = Subscribers()
        """Told of every step, of the last one perhaps just after the ``with`` block."""
        self.rounds: Subscribers[Callable[[], None]] = Subscribers()
        """Called on the inference thread after each of its rounds, a step for instance; they must raise nothing."""
        self.scoring: Scoring = Scoring(self)
        """What is scored in slots of its own, beside the conversations."""
        self._closing = False
        self.watchdog: Watchdog = Watchdog(self._end_stalled)
        self._jobs = Jobs(self.changed, self.watchdog)
        self._thread = threading.Thread(target=self._run, name="duplex-inference", daemon=True)
        with undone(model.close, self.watchdog.stop):  # the watchdog's thread would keep a model that nobody runs
            self._thread.start()

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self.model.spec.capacity - len(self._seats) + len(self._abandoned)

    def open(
        self,
        options: SessionOptions,
        *,
        realtime: bool,
        notify: Callable[[], None],
        state: SessionState | None = None,
        prompt: Prompt | None = None,
        conditions: Conditions | None = None,
    ) -> Seat:
        """Take the lowest free slot. ``notify`` is called, from any thread, when there are results to take.

        It begins where ``state`` was taken, or with a ``prompt``, which the model is fed between its neighbours' steps.

        :raises CapacityError: if there is none
        :raises ClosedError: if the engine has been closed
        :raises ForkError: in another process than the one that it was made in
        :raises ModelStalledError: if the model does not answer
        :raises StateError: if the state's time line is damaged
        """

        def prepare(slot: int) -> Iterator[None]:
            return self._beginnings.prepare(slot, options, prompt, state, conditions)

        prompted = prompt.length + prompt.later if prompt else 0
        return self.take(prepare, realtime=realtime, notify=notify, prompted=prompted, state=state)

    def take(
        self,
        prepare: Callable[[int], Iterator[None]],
        *,
        realtime: bool,
        notify: Callable[[], None],
        prompted: int = 0,
        state: SessionState | None = None,
    ) -> Seat:
        """Take the lowest free slot, which ``prepare`` makes ready, in pieces; its errors are those of :meth:`open`."""
        self._process.check("the model")
        self._release_abandoned()
        capacity = self.model.spec.capacity
        with self.changed:
            if self._closing:
                raise ClosedError("the model has been closed; load it again")
            if self.watchdog.overdue:
                raise ModelStalledError("the model does not answer; restart the process")
            slot = next((n for n in range(capacity) if n not in self._seats), None)
            if slot is None:
                raise CapacityError(
                    f"all {capacity} places of the model are taken; load it with more sessions, wait for one with "
                    "Conversation(..., wait=seconds), or try again later"
                )
            seat = Seat(self, slot, realtime=realtime, notify=notify, prompted=prompted)
            if state is not None:
                seat.restore_time_line(state.tensors)
            self._seats[slot] = seat
            self._jobs.add(self._prepare(seat, prepare(slot)))
        return seat

    def mark_changed(self, seat: Seat) -> None:
        """Mark a seat as changed, to be looked at before the next step (with the lock held)."""
        self._changed_seats[seat] = None
        self.changed.notify()

    def submit(self, job: Job) -> None:
        """Run a job on the inference thread, at most one piece between two steps."""
        with self.changed:
            self._jobs.add(job)

    def release(self, seat: Seat) -> None:
        """Free a seat's slot; other slots are not affected."""
        with self.changed:
            if seat.closed:
                return
            seat.closed = True
            seat.inbox.clear()
            seat.outbox.clear()
            self._changed_seats.pop(seat, None)
            if self._seats.get(seat.slot) is seat:
                del self._seats[seat.slot]
        seat.wake()  # another task may wait for what the seat gives, which is nothing now
        for notify in self.vacancies:
            notify()

    def abandon(self, seat: Seat) -> None:
        """Free a seat's slot soon; for finalizers, which may run while their own thread holds any lock."""
        if seat.closed or seat.abandoned or self._process.forked:
            return
        seat.abandoned = True  # what a conversation and what runs it give up is one seat
        self._abandoned.append(seat)
        if self.changed.acquire(timeout=ABANDON_SECONDS):
            self.changed.notify()
            self.changed.release()

    def close(self, wait: float = CLOSE_SECONDS) -> None:
        """End all conversations with :class:`ClosedError`, stop the thread and free the model.

        A step that takes longer than ``wait`` seconds is not waited for, and nothing happens in a fork of the process.
        """
        if self._process.forked:
            return
        with self.changed:
            if self._closing:
                return
            self._closing = True
            self.changed.notify()
        self.watchdog.stop()
        if threading.current_thread() is self._thread:  # the garbage collector runs anywhere
            return
        self._thread.join(0.0 if self.watchdog.late else wait)
        if self._thread.is_alive():
            logger.warning("a step takes more than %g s; the model's memory is freed when it ends", wait)
            self._end_conversations()
        self.watchdog.join()

    def _run(self) -> None:
        self._run_until_closed()
        self._end_conversations()
        try:
            self.model.close()
        except Exception:
            logger.exception("the model could not be freed")

    def _end_conversations(self) -> None:
        with self.changed:
            for seat in list(self._seats.values()):
                seat.fail(ClosedError("the model was closed while the conversation was going on"))
        for notify in self.vacancies:
            notify()

    def _release_abandoned(self) -> None:
        """Release what finalizers have given up."""
        while self._abandoned:
            with suppress(IndexError):  # another thread was faster
                self.release(self._abandoned.popleft())

    def _run_until_closed(self) -> None:
        while True:
            with self.changed:
                while not (self._closing or self._jobs or self._changed_seats or self._abandoned):
                    self.changed.wait()
                if self._closing:
                    return
            self._release_abandoned()
            try:
                self._run_once()
            except Exception as error:  # noqa: BLE001 -- the thread must survive, or every conversation would hang
                with self.changed:
                    self._jobs.clear()
                    seats = list(self._seats.values())
                self._fail(seats, error)
            for done in self.rounds:
                done()

    def _run_once(self) -> None:
        """Advance one job by one piece, then run one step."""
        self._jobs.advance()
        with self.changed:
            batch = self._batch()
            for seat in batch:
                seat.in_flight.append(seat.inbox.popleft())
        if batch:
            self._step(batch)

    def _batch(self) -> list[Seat]:
        """Return the seats of the next step, end finished ones, and unmark idle ones (with the lock held)."""
        batch: list[Seat] = []
        for seat in list(self._changed_seats):
            if seat.can_step():
                batch.append(seat)
            elif seat.has_finished():
                seat.ending = False
                seat.put(Finished())
            elif not seat.waits_for_job():
                del self._changed_seats[seat]
        return batch

    def _prepare(self, seat: Seat, pieces: Iterator[None]) -> Job:
        if seat.over:
            return
        try:
            for _ in pieces:
                yield
                if seat.over:
                    return
        except Exception as error:  # noqa: BLE001 -- it belongs to the conversation that is being opened
            self._fail([seat], error)
        with self.changed:
            seat.ready = True
        seat.wake()

    def _step(self, batch: list[Seat]) -> None:
        """Run one step; what fails for one seat alone ends only that one's conversation."""
        began = time.monotonic()
        try:
            end_sources(self.model, batch)
            pending = [seat.in_flight[-1] for seat in batch]
            active = self._stepped.put(batch)
            result = self.watchdog.watch(lambda: self.model.step(self._stepped.pcm, active))
            ended = time.monotonic()
            for seat in (seat for seat in batch if seat.slot in result.errors):
                self._fail([seat], result.errors[seat.slot])
            batch = [seat for seat in batch if not seat.failed]
            frames = self._stepped.take(batch, result)
            with self.changed:
                deliver(batch, frames, result)
            for seat in batch:
                seat.wake()  # also without a result: there is room for another frame
            for observer in self.observed:
                observer.stepped(began, ended, pending)
        except Exception as error:  # noqa: BLE001 -- every conversation of the step fails with it
            self._fail(batch, error)

    def _end_stalled(self, seconds: float) -> None:
        """End all conversations, as a step has been running for so long (the watchdog)."""
        with self.changed:
            stalled = [seat for seat in self._seats.values() if not seat.failed]
        if stalled:
            logger.error("a step of the model has been running for %.0f s; %d conversations end", seconds, len(stalled))
            error = f"a step of the model has been running for {seconds:.0f} s and does not end; restart the process"
            self._fail(stalled, ModelStalledError(error))

    def _fail(self, seats: list[Seat], error: Exception) -> None:
        """Fail conversations whose state can no longer be trusted; each gets its own copy of the error."""
        with self.changed:
            for seat in seats:
                seat.fail(conversation_error(error))
