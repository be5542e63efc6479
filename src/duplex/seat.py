"""A conversation's seat: what waits for the model, what waits to be taken, and the rules of both.

A live seat whose frames wait too long is behind real time: it skips frames, silent ones first, then the oldest, and its
conversation is told. A seat that is not live is held back while its results are not taken, and skips nothing.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio import level_dbfs
from duplex.errors import StateError
from duplex.frame_model import Frame, FrameModel, SessionState
from duplex.pacing import skips

__all__ = ["Exported", "Failed", "Finished", "Inference", "Job", "Outcome", "Seat", "Skipped"]

Float32 = NDArray[np.float32]
Job = Generator[None]
"""Work for the inference thread, which does a piece at a time between two steps."""


class Inference(Protocol):
    """What a seat needs of the engine."""

    @property
    def model(self) -> FrameModel:
        """The model."""
        ...

    @property
    def changed(self) -> threading.Condition:
        """The one lock, and the inference thread's alarm."""
        ...

    def do(self, job: Job) -> None:
        """Have a job done."""
        ...

    def release(self, seat: "Seat") -> None:
        """Free a seat's slot."""
        ...

    def fail(self, seats: "list[Seat]", error: Exception) -> None:
        """End conversations whose state can no longer be trusted."""
        ...


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
    """One conversation's place in the running batch. Made by :meth:`duplex.engine.Engine.open`.

    The methods without a remark in brackets may be called from any thread, and none of them waits for the model.
    """

    WAITING_LIMIT = 5
    """Frames that may wait for the model before a live seat counts as behind."""
    WAITING_AFTER_SKIP = 2
    RESULTS_LIMIT = 32
    """Results that may wait to be taken before a seat that is not live is held back."""
    SILENCE = -50.0
    """dBFS below which a frame counts as silent."""

    def __init__(self, engine: Inference, slot: int, *, realtime: bool, notify: Callable[[], None]) -> None:
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
            if self.closed:
                return
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
