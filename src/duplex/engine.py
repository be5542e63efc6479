"""Many conversations on one model: slots, steps, and the one inference thread.

The rules of the thread, again and again: do a piece of every job that waits (open, restore or export a slot), then take
every seat that has a frame and somewhere to put its result, and advance them all in one step. A seat that has no frame
holds nobody up. Live seats are never held back; a seat that is not live waits while its results are not taken.

A live seat whose frames wait too long is behind real time: it skips frames, silent ones first, then the oldest, and its
conversation is told. All of a seat's methods may be called from any thread and none waits for the model.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio import level_dbfs
from duplex.errors import CapacityError, ClosedError, DuplexError, ModelError, StateError
from duplex.frame_model import Frame, FrameModel, SessionOptions, SessionState, StepResult
from duplex.pacing import skips

__all__ = ["Engine", "Exported", "Failed", "Finished", "Outcome", "Seat", "Skipped"]

Float32 = NDArray[np.float32]
Job = Generator[None]


@attrs.frozen
class Skipped:
    """Frames of the user's that the model did not hear, ``seconds`` of them from ``at`` on."""

    at: float
    behind: float
    seconds: float


@attrs.frozen
class Finished:
    """The user's last frame has been answered."""


@attrs.frozen
class Failed:
    """The model raised; nothing more comes from this seat."""

    error: Exception


@attrs.frozen(eq=False)
class Exported:
    """The slot's state as it was between the results before this one and those after."""

    state: SessionState


Outcome = Frame | Skipped | Finished | Failed | Exported


class Seat:
    """One conversation's place in the running batch. Made by :meth:`Engine.open`."""

    WAITING_LIMIT = 5
    """Frames that may wait for the model before a live seat counts as behind."""
    WAITING_AFTER_SKIP = 2
    RESULTS_LIMIT = 32
    """Results that may wait to be taken before a seat that is not live is held back."""
    SILENCE = -50.0
    """dBFS below which a frame counts as silent."""

    def __init__(self, engine: "Engine", slot: int, *, realtime: bool, notify: Callable[[], None]) -> None:
        self.slot = slot
        self.realtime = realtime
        self.index = 0
        """Place on the time line of the frame that is pushed next."""
        self.ready = False
        self.frozen = self.closed = self.ending = False
        self.flush = engine.model.spec.latency_frames
        self.inbox: deque[tuple[int, Float32]] = deque()
        self.unanswered: deque[tuple[int, Float32]] = deque()
        self.outbox: deque[Outcome] = deque()
        self._engine = engine
        self.notify = notify

    @property
    def waiting(self) -> int:
        """How many frames wait for the model."""
        return len(self.inbox)

    def push(self, pcm: Float32) -> None:
        """Give the user's next frame, float32 ``[frame_size]``."""
        with self._engine.changed:
            self.inbox.append((self.index, pcm))
            self.index += 1
            if self.realtime and len(self.inbox) > self.WAITING_LIMIT:
                self._catch_up()
            self._engine.changed.notify()

    def finish(self) -> None:
        """Say that no frame follows; :class:`Finished` comes when all have been answered."""
        with self._engine.changed:
            silence = np.zeros(self._engine.model.spec.frame_size, np.float32)
            self.inbox.extend((self.index + extra, silence) for extra in range(self.flush))
            self.ending = True
            self._engine.changed.notify()

    def take(self) -> list[Outcome]:
        """Return, and forget, all results so far."""
        with self._engine.changed:
            taken = list(self.outbox)
            self.outbox.clear()
            self._engine.changed.notify()
        return taken

    def export(self) -> None:
        """Take the slot's state at the next frame boundary; it comes as :class:`Exported`.

        It is copied in pieces between the neighbours' steps; the seat itself waits until that is done.
        """
        self._engine.do(self._export())

    def close(self) -> None:
        """Give the slot back at once. Results that were not taken are forgotten."""
        self._engine.release(self)

    def go_on(self, tensors: Mapping[str, NDArray[np.generic]]) -> None:
        """Take up the time line of an exported seat (the engine, before anything is pushed).

        :raises StateError: if it is damaged
        """
        try:
            self.index, *pending = (int(index) for index in tensors["seat.index"])
            self.unanswered.extend(zip(pending, tensors["seat.pcm"].astype(np.float32), strict=True))
        except (KeyError, ValueError, TypeError) as error:
            raise StateError(f"the saved conversation has no time line ({error}); export it anew") from error

    def put(self, outcome: Outcome) -> None:
        """Add a result (the engine, with the lock held)."""
        self.outbox.append(outcome)
        self.notify()

    def wants_step(self) -> bool:
        """Whether the next step can take this seat (the engine, with the lock held)."""
        if not self.ready or self.frozen or self.closed or not self.inbox:
            return False
        return self.realtime or len(self.outbox) < self.RESULTS_LIMIT

    def _catch_up(self) -> None:
        spec = self._engine.model.spec
        behind = spec.seconds(len(self.inbox))
        silent = [level_dbfs(pcm) < self.SILENCE for _, pcm in self.inbox]
        chosen = skips(silent, len(self.inbox) - self.WAITING_AFTER_SKIP)
        first = self.inbox[chosen[0]][0]
        self.inbox = deque(frame for i, frame in enumerate(self.inbox) if i not in chosen)
        self.put(Skipped(spec.seconds(first), behind, spec.seconds(len(chosen))))

    def _export(self) -> Job:
        with self._engine.changed:
            self.frozen = True
            pending = [*self.unanswered]
            reached = self.inbox[0][0] if self.inbox else self.index
        tensors: dict[str, NDArray[np.generic]] = {}
        try:
            state = self._engine.model.export(self.slot)
            for name in state.tensors:
                tensors[name] = state.tensors[name]
                yield
                if self.closed:
                    return
        except Exception as error:  # noqa: BLE001 -- it belongs to the conversation that is being exported
            self._engine.fail([self], error)
            return
        size = self._engine.model.spec.frame_size
        tensors["seat.index"] = np.array([reached, *(index for index, _ in pending)], np.int64)
        tensors["seat.pcm"] = np.array([pcm for _, pcm in pending], np.float32).reshape(-1, size)
        with self._engine.changed:
            self.frozen = False
            self.put(Exported(SessionState(metadata=dict(state.metadata), tensors=tensors)))
        yield


class Engine:
    """The slots of one model, and the thread that steps them."""

    def __init__(self, model: FrameModel) -> None:
        self.model = model
        self.changed = threading.Condition()
        self._seats: dict[int, Seat] = {}
        self._jobs: deque[Job] = deque()
        self._vacancy: list[Callable[[], None]] = []
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
                seat.go_on(state.tensors)
            self._seats[slot] = seat
            self._jobs.append(self._prepare(seat, options, state))
            self.changed.notify()
        return seat

    def do(self, job: Job) -> None:
        """Have a job done on the inference thread, a piece between two steps."""
        with self.changed:
            self._jobs.append(job)
            self.changed.notify()

    def when_vacant(self, notify: Callable[[], None]) -> None:
        """Have ``notify`` called once, when a slot has become free."""
        with self.changed:
            self._vacancy.append(notify)

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
            waiting, self._vacancy = self._vacancy, []
            self.changed.notify()
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
            waiting, self._vacancy = self._vacancy, []
        for notify in waiting:
            notify()
        self.model.close()

    def _run(self) -> None:
        while True:
            with self.changed:
                while not (self._closing or self._jobs or self._finishable() or self._batch()):
                    self.changed.wait()
                if self._closing:
                    return
                jobs = list(self._jobs)
            for job in jobs:
                self._advance(job)
            with self.changed:
                batch = self._batch()
                frames = [seat.inbox.popleft() for seat in batch]
                for seat, frame in zip(batch, frames, strict=True):
                    seat.unanswered.append(frame)
            if batch:
                self._step(batch, [pcm for _, pcm in frames])
            with self.changed:
                for seat in self._finishable():
                    seat.ending = False
                    seat.put(Finished())

    def _batch(self) -> list[Seat]:
        return [seat for seat in self._seats.values() if seat.wants_step()]

    def _finishable(self) -> list[Seat]:
        seats = self._seats.values()
        return [seat for seat in seats if seat.ending and seat.ready and not seat.frozen and not seat.inbox]

    def _advance(self, job: Job) -> None:
        """Do one piece of a job; forget it when it is done."""
        if next(job, self) is self:
            with self.changed:
                self._jobs.remove(job)

    def _prepare(self, seat: Seat, options: SessionOptions, state: SessionState | None) -> Job:
        try:
            if state is None:
                self.model.open(seat.slot, options)
            else:
                self.model.restore(seat.slot, state)
        except Exception as error:  # noqa: BLE001 -- it belongs to the conversation that is being opened
            self.fail([seat], error)
        with self.changed:
            seat.ready = True
        yield

    def _step(self, batch: list[Seat], frames: list[Float32]) -> None:
        spec = self.model.spec
        pcm = np.zeros((spec.capacity, spec.frame_size), np.float32)
        active = np.zeros(spec.capacity, np.bool_)
        for seat, frame in zip(batch, frames, strict=True):
            pcm[seat.slot], active[seat.slot] = frame, True
        try:
            result = self.model.step(pcm, active)
            with self.changed:
                for seat in batch:
                    if result.valid[seat.slot] and not seat.closed:
                        seat.outbox.append(self._frame(seat, result))
                    seat.notify()  # also when nothing came out: there is room for another frame
        except Exception as error:  # noqa: BLE001 -- every conversation of the step is told
            self.fail(batch, error)

    def _frame(self, seat: Seat, result: StepResult) -> Frame:
        index, heard = seat.unanswered.popleft()
        spec, slot = self.model.spec, seat.slot
        return Frame(
            at=spec.seconds(index),
            user_pcm=heard,
            agent_pcm=result.pcm[slot].copy() if spec.agent_streams else None,
            text=int(result.text[slot]),
            agent=result.agent[slot].copy(),
            user=result.user[slot].copy(),
        )

    def fail(self, seats: list[Seat], error: Exception) -> None:
        """End conversations whose state can no longer be trusted (the inference thread)."""
        if not isinstance(error, DuplexError):
            cause = error
            error = ModelError(f"the model failed ({type(cause).__name__}: {cause}); start the conversation again")
            error.__cause__ = cause
        with self.changed:
            for seat in seats:
                seat.frozen = True
                seat.ending = False
                seat.put(Failed(error))
