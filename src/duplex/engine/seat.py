"""A conversation's seat: the queue of its frames for the model, the queue of its results, and the rules of both.

A seat is held back while its results are not taken. A live one whose frames wait too long, for that or for the model,
is behind real time: it skips frames, silent ones first, then the oldest, and its conversation is told. One that is not
live skips nothing.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import level_dbfs
from duplex.engine.outcomes import Exported, Failed, Outcome, Skipped
from duplex.engine.pacing import frames_to_skip
from duplex.engine.time_line import PendingFrame, read_time_line, time_line_tensors
from duplex.errors import ModelError
from duplex.frame_model import FrameModel, SessionState

__all__ = ["Inference", "Job", "Seat"]

END_OF_TEXT = 2
"""The token by which a model that translates says that it has nothing to add, in all published tokenizers."""
Float32 = NDArray[np.float32]
Job = Generator[None]
"""Work for the inference thread, which runs it up to its next ``yield`` between two steps."""


class Inference(Protocol):
    """The part of the engine that a seat uses."""

    @property
    def model(self) -> FrameModel:
        """The model."""
        ...

    @property
    def changed(self) -> threading.Condition:
        """The engine's lock, notified when the inference thread has something to do."""
        ...

    def mark_changed(self, seat: "Seat") -> None:
        """Mark a seat as changed, to be looked at before the next step (with the lock held)."""
        ...

    def submit(self, job: Job) -> None:
        """Run a job on the inference thread."""
        ...

    def release(self, seat: "Seat") -> None:
        """Free a seat's slot."""
        ...

    def abandon(self, seat: "Seat") -> None:
        """Free a seat's slot soon."""
        ...


class Seat:
    """One conversation's place in the running batch. Made by :meth:`duplex.engine.engine.Engine.open`.

    Methods without a remark in brackets may be called from any thread; none of them waits for the model.
    """

    WAITING_LIMIT = 5
    """Frames that may wait for the model before a live seat counts as behind."""
    WAITING_AFTER_SKIP = 2
    RESULTS_LIMIT = 32
    """Results that may wait to be taken before a seat is held back."""
    LIVE_RESULTS_LIMIT = 8
    """The same for a live seat, whose frames then pile up and are skipped."""
    SILENCE = -50.0
    """dBFS below which a frame counts as silent."""
    EXPORT_PIECE = 1 << 23
    """Bytes that an export copies between two steps, rounded up to whole tensors."""

    def __init__(
        self, engine: Inference, slot: int, *, realtime: bool, notify: Callable[[], None], prompted: int = 0
    ) -> None:
        self.slot = slot
        self.prompted: int = prompted
        """Time steps of the prompt that the conversation begins with: they come out as no frames."""
        self.realtime = realtime
        self.index: int = 0
        """Index on the time line of the frame that is pushed next."""
        self.ready: bool = False
        """Whether the slot has been prepared, or never will be, so that nobody waits for it."""
        self.ending: bool = False
        self.failed: bool = False
        self.closed: bool = False
        self.abandoned: bool = False
        """Whether a finalizer has given it up."""
        self.source_ended: bool = False
        """Whether a model that translates has been told that the source has ended."""
        self.translated: bool = False
        """Whether it has said since that it has nothing to add."""
        self.exports: int = 0
        """Exports asked for; the slot is not stepped meanwhile."""
        self.flush: int = engine.model.spec.latency_frames
        self.inbox: deque[PendingFrame] = deque()
        self.in_flight: deque[PendingFrame] = deque()
        self.outbox: deque[Outcome] = deque()
        self._complete = False
        """Whether all of the user's audio has been pushed."""
        self._delayed = 0
        """Frames that may wait beyond the limit, as inserted silence has taken the model's time."""
        self._engine = engine
        self._notify = notify

    @property
    def over(self) -> bool:
        """Whether nothing more may be done in its slot: it has failed, or the slot may be another's by now."""
        return self.failed or self.closed

    @property
    def waiting(self) -> int:
        """Number of frames that wait for the model."""
        return len(self.inbox)

    def push(self, pcm: Float32) -> None:
        """Queue the next user frame, float32 ``[frame_size]``."""
        with self._engine.changed:
            if not self.inbox:
                self._delayed = 0
            self.inbox.append(PendingFrame(self.index, pcm))
            self.index += 1
            if self.realtime and len(self.inbox) > self.WAITING_LIMIT + self._delayed:
                self._catch_up()
            self._engine.mark_changed(self)

    def insert_silence(self, frames: int) -> None:
        """Queue ``frames`` frames of silence that take no time on the time line, nor are they a delay of live audio.

        After :meth:`finish` it does nothing, as silence has come already.
        """
        with self._engine.changed:
            if self._complete:
                return
            silence = np.zeros(self._engine.model.spec.frame_size, np.float32)
            self.inbox.extend(PendingFrame(self.index, silence, inserted=True) for _ in range(frames))
            self._delayed += frames
            self._engine.mark_changed(self)

    def skip(self, frames: int) -> None:
        """Advance the time line by ``frames`` frames that the model does not process."""
        spec = self._engine.model.spec
        with self._engine.changed:
            self._report_skipped(self.index, spec.seconds(frames), frames)
            self.index += frames

    def end_source(self) -> None:
        """Tell a model that translates that the source has ended; silence is to be pushed until it has translated."""
        with self._engine.changed:
            silence = np.zeros(self._engine.model.spec.frame_size, np.float32)
            self.inbox.append(PendingFrame(self.index, silence, ends_source=True))
            self.index += 1
            self._engine.mark_changed(self)

    def finish(self) -> None:
        """Mark the end of the user's audio; :class:`Finished` follows the last frame's result."""
        with self._engine.changed:
            silence = np.zeros(self._engine.model.spec.frame_size, np.float32)
            if self.translated:
                self.flush = 0
            self.inbox.extend(PendingFrame(self.index + extra, silence) for extra in range(self.flush))
            self.ending = self._complete = True
            self._engine.mark_changed(self)

    def take(self) -> list[Outcome]:
        """Remove and return all results so far."""
        with self._engine.changed:
            taken, held_back = list(self.outbox), self._full()
            self.outbox.clear()
            if held_back:
                self._engine.mark_changed(self)
        return taken

    def export(self) -> None:
        """Export the slot's state at the next frame boundary, as :class:`Exported`; it is not stepped meanwhile."""
        with self._engine.changed:
            self.exports += 1
        self._engine.submit(self._export())

    def close(self) -> None:
        """Free the slot at once, and discard results that were not taken."""
        self._engine.release(self)

    def abandon(self) -> None:
        """Free the slot as soon as the inference thread gets to it; a finalizer may call it, wherever it runs."""
        self._engine.abandon(self)

    def restore_time_line(self, tensors: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore the time line of an exported seat (the engine, before anything is pushed).

        :raises StateError: if it is damaged
        """
        self.index, self.prompted, pending = read_time_line(tensors, self._engine.model)
        self.in_flight.extend(pending)

    def put(self, outcome: Outcome) -> None:
        """Add a result (the engine, with the lock held)."""
        self.outbox.append(outcome)
        self.wake()

    def fail(self, error: Exception) -> None:
        """End with an error, the first one it is given (the engine, with the lock held)."""
        if not self.failed:
            self.failed = self.ready = True
            self.put(Failed(error))

    def note_translation(self, text: int) -> None:
        """Note whether a model that translates has come to its end (the engine, with the lock held)."""
        if self.source_ended and text == END_OF_TEXT:
            self.translated = True
            self.inbox.clear()

    def wake(self) -> None:
        """Notify the conversation; an error in its callback must not end the inference thread."""
        try:
            self._notify()
        except Exception:  # noqa: BLE001
            self.failed = True

    def idle(self) -> bool:
        """Whether the slot must not be stepped now (the engine, with the lock held)."""
        return not self.ready or self.over or self.exports > 0

    def waits_for_job(self) -> bool:
        """Whether it waits for a job that is in progress (the engine, with the lock held)."""
        return not self.over and (not self.ready or self.exports > 0)

    def can_step(self) -> bool:
        """Whether the next step can include this seat (the engine, with the lock held)."""
        return not self.idle() and bool(self.inbox) and not self._full()

    def has_finished(self) -> bool:
        """Whether the last frame has been processed (the engine, with the lock held)."""
        return not self.idle() and self.ending and not self.inbox

    def _full(self) -> bool:
        return len(self.outbox) >= (self.LIVE_RESULTS_LIMIT if self.realtime else self.RESULTS_LIMIT)

    def _catch_up(self) -> None:
        spec = self._engine.model.spec
        heard = [frame for frame in self.inbox if not frame.inserted]
        behind = spec.seconds(len(heard))
        silent = [level_dbfs(frame.pcm) < self.SILENCE for frame in heard]
        chosen = [heard[i] for i in frames_to_skip(silent, len(heard) - self.WAITING_AFTER_SKIP)]
        self.inbox = deque(frame for frame in self.inbox if frame not in chosen)
        self._report_skipped(chosen[0].index, behind, len(chosen))

    def _report_skipped(self, index: int, behind: float, frames: int) -> None:
        """Add a :class:`Skipped`, merged into the one before it if that has not been taken yet."""
        spec = self._engine.model.spec
        at, seconds = spec.seconds(index), spec.seconds(frames)
        before = self.outbox[-1] if self.outbox else None
        if isinstance(before, Skipped):
            self.outbox.pop()
            at, behind, seconds = before.at, max(before.behind, behind), before.seconds + seconds
        self.put(Skipped(at, behind, seconds))

    def _export(self) -> Job:
        while not (self.ready or self.closed):  # a restore takes turns with this job
            yield
        with self._engine.changed:
            if self.closed:
                return
            if self.failed:
                self._end_export(ModelError("the conversation has failed, so there is nothing to export"))
                return
            reached = self.inbox[0].index if self.inbox else self.index
            time_line = time_line_tensors(reached, self.prompted, self.in_flight, self._engine.model.spec)
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
            exported: SessionState | Exception = SessionState(
                metadata=dict(state.metadata), tensors=tensors | time_line
            )
        except Exception as error:  # noqa: BLE001 -- it belongs to whoever asked
            exported = ModelError(f"the conversation cannot be exported ({error}); it goes on as it was")
            exported.__cause__ = error
        with self._engine.changed:
            self._end_export(exported)

    def _end_export(self, exported: SessionState | Exception) -> None:
        self.exports -= 1
        self.put(Exported(exported))
