"""A conversation's seat: what waits for the model, what waits to be taken, and the rules of both.

A seat is held back while its results are not taken. A live one whose frames wait too long, for that or for the model,
is behind real time: it skips frames, silent ones first, then the oldest, and its conversation is told. One that is not
live skips nothing.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import level_dbfs
from duplex.engine.pacing import skips
from duplex.errors import ModelError, StateError
from duplex.frame_model import Frame, FrameModel, SessionState

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

    def stir(self, seat: "Seat") -> None:
        """Look at a seat (with the lock held)."""
        ...

    def submit(self, job: Job) -> None:
        """Have a job done."""
        ...

    def release(self, seat: "Seat") -> None:
        """Free a seat's slot."""
        ...


@attrs.frozen(eq=False)
class Given:
    """A frame of the user's, float32 ``[frame_size]``, its place on the time line, and when it was given."""

    index: int
    pcm: Float32
    since: float = attrs.field(factory=time.monotonic)


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
    """The slot's state as it was between the results before this one and those after, or why it cannot be had."""

    state: SessionState | Exception


Outcome = Frame | Skipped | Finished | Failed | Exported


class Seat:
    """One conversation's place in the running batch. Made by :meth:`duplex.engine.engine.Engine.open`.

    The methods without a remark in brackets may be called from any thread, and none of them waits for the model.
    """

    WAITING_LIMIT = 5
    """Frames that may wait for the model before a live seat counts as behind."""
    WAITING_AFTER_SKIP = 2
    RESULTS_LIMIT = 32
    """Results that may wait to be taken before a seat is held back."""
    LIVE_RESULTS_LIMIT = 8
    """The same of a live one, whose frames then wait for the model, and are skipped."""
    SILENCE = -50.0
    """dBFS below which a frame counts as silent."""
    EXPORT_PIECE = 1 << 23
    """Bytes that an export copies between two steps of the neighbours, or one tensor."""

    def __init__(self, engine: Inference, slot: int, *, realtime: bool, notify: Callable[[], None]) -> None:
        self.slot = slot
        self.realtime = realtime
        self.index = 0
        """Place on the time line of the frame that is pushed next."""
        self.ready = self.ending = self.failed = self.closed = False
        self.exports = 0
        """Exports that are being copied; the slot is not stepped meanwhile."""
        self.flush = engine.model.spec.latency_frames
        self.inbox: deque[Given] = deque()
        self.unanswered: deque[Given] = deque()
        self.outbox: deque[Outcome] = deque()
        self._engine = engine
        self._notify = notify

    @property
    def waiting(self) -> int:
        """How many frames wait for the model."""
        return len(self.inbox)

    def push(self, pcm: Float32) -> None:
        """Give the user's next frame, float32 ``[frame_size]``."""
        with self._engine.changed:
            self.inbox.append(Given(self.index, pcm))
            self.index += 1
            if self.realtime and len(self.inbox) > self.WAITING_LIMIT:
                self._catch_up()
            self._engine.stir(self)

    def skip(self, frames: int) -> None:
        """Let the time line pass over so many frames that nobody heard."""
        spec = self._engine.model.spec
        with self._engine.changed:
            self._tell_skipped(self.index, spec.seconds(frames), frames)
            self.index += frames

    def finish(self) -> None:
        """Say that no frame follows; :class:`Finished` comes when all have been answered."""
        with self._engine.changed:
            silence = np.zeros(self._engine.model.spec.frame_size, np.float32)
            self.inbox.extend(Given(self.index + extra, silence) for extra in range(self.flush))
            self.ending = True
            self._engine.stir(self)

    def take(self) -> list[Outcome]:
        """Return, and forget, all results so far."""
        with self._engine.changed:
            taken, held_back = list(self.outbox), self._full()
            self.outbox.clear()
            if held_back:
                self._engine.stir(self)
        return taken

    def export(self) -> None:
        """Take the slot's state at the next frame boundary; it comes as :class:`Exported`.

        It is copied in pieces between the neighbours' steps; the seat itself waits until that is done.
        """
        self._engine.submit(self._export())

    def close(self) -> None:
        """Give the slot back at once. Results that were not taken are forgotten."""
        self._engine.release(self)

    def continue_from(self, tensors: Mapping[str, NDArray[np.generic]]) -> None:
        """Take up the time line of an exported seat (the engine, before anything is pushed).

        :raises StateError: if it is damaged
        """
        try:
            self.index, *pending = (int(index) for index in tensors["seat.index"])
            pcm = tensors["seat.pcm"].astype(np.float32)
        except (KeyError, ValueError, TypeError) as error:
            raise StateError(f"the saved conversation has no time line ({error}); export it anew") from error
        if pcm.shape != (len(pending), self._engine.model.spec.frame_size) or min(self.index, *pending, 0) < 0:
            raise StateError("the saved conversation's time line does not fit this model; export it anew")
        self.unanswered.extend(Given(index, heard) for index, heard in zip(pending, pcm, strict=True))

    def put(self, outcome: Outcome) -> None:
        """Add a result (the engine, with the lock held)."""
        self.outbox.append(outcome)
        self.wake()

    def wake(self) -> None:
        """Tell the conversation to look; one that cannot be told must not take the inference thread with it."""
        try:
            self._notify()
        except Exception:  # noqa: BLE001
            self.failed = True

    def idle(self) -> bool:
        """Whether nothing may be done with the slot now (the engine, with the lock held)."""
        return not self.ready or self.failed or self.closed or self.exports > 0

    def postponed(self) -> bool:
        """Whether a job is being done that it waits for (the engine, with the lock held)."""
        return not (self.failed or self.closed) and (not self.ready or self.exports > 0)

    def wants_step(self) -> bool:
        """Whether the next step can take this seat (the engine, with the lock held)."""
        return not self.idle() and bool(self.inbox) and not self._full()

    def has_finished(self) -> bool:
        """Whether the last frame has been answered (the engine, with the lock held)."""
        return not self.idle() and self.ending and not self.inbox

    def _full(self) -> bool:
        return len(self.outbox) >= (self.LIVE_RESULTS_LIMIT if self.realtime else self.RESULTS_LIMIT)

    def _catch_up(self) -> None:
        spec = self._engine.model.spec
        behind = spec.seconds(len(self.inbox))
        silent = [level_dbfs(frame.pcm) < self.SILENCE for frame in self.inbox]
        chosen = skips(silent, len(self.inbox) - self.WAITING_AFTER_SKIP)
        first = self.inbox[chosen[0]].index
        self.inbox = deque(frame for i, frame in enumerate(self.inbox) if i not in chosen)
        self._tell_skipped(first, behind, len(chosen))

    def _tell_skipped(self, index: int, behind: float, frames: int) -> None:
        """Add a :class:`Skipped`, to the one before it if that has not been taken yet."""
        spec = self._engine.model.spec
        at, seconds = spec.seconds(index), spec.seconds(frames)
        before = self.outbox[-1] if self.outbox else None
        if isinstance(before, Skipped):
            self.outbox.pop()
            at, behind, seconds = before.at, max(before.behind, behind), before.seconds + seconds
        self.put(Skipped(at, behind, seconds))

    def _export(self) -> Job:
        with self._engine.changed:
            if self.closed:
                return
            self.exports += 1
            reached = self.inbox[0].index if self.inbox else self.index
            pending = list(self.unanswered)
        exported: SessionState | Exception
        try:
            state = self._engine.model.export(self.slot)
            tensors: dict[str, NDArray[np.generic]] = {}
            copied = 0
            for name in state.tensors:
                tensors[name] = state.tensors[name]
                copied += tensors[name].nbytes
                if copied >= self.EXPORT_PIECE:
                    copied = 0
                    yield
                    if self.closed:
                        return
            exported = SessionState(metadata=dict(state.metadata), tensors=tensors | self._time_line(reached, pending))
        except Exception as error:  # noqa: BLE001 -- it belongs to whoever asked
            exported = ModelError(f"the conversation cannot be exported ({error}); it goes on as it was")
            exported.__cause__ = error
        with self._engine.changed:
            self.exports -= 1
            self.put(Exported(exported))

    def _time_line(self, reached: int, pending: list[Given]) -> dict[str, NDArray[np.generic]]:
        """Return what :meth:`continue_from` reads."""
        size = self._engine.model.spec.frame_size
        return {
            "seat.index": np.array([reached, *(frame.index for frame in pending)], np.int64),
            "seat.pcm": np.array([frame.pcm for frame in pending], np.float32).reshape(-1, size),
        }
