"""Recordings of a call, which begin and end while it goes on, in the layout of ``duplex process``.

Each has a time line of its own, which starts where the recording does.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import anyio.to_thread
import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.atomic import make_folder, output_error
from duplex.errors import OutputError
from duplex.events import AgentAudio, Event, SessionStarted
from duplex.frame_model import Frame
from duplex.results.writer import ResultWriter
from duplex.talk.remote_recording import RemoteWriter

__all__ = ["MakeWriter", "Recorder"]

Float32 = NDArray[np.float32]


MakeWriter: TypeAlias = Callable[[Path], ResultWriter | RemoteWriter]


class Recorder:
    """A recorder and a tap of a conversation, on or off; :meth:`start` and :meth:`stop` begin and end a recording.

    Each is a folder in ``parent``, named by the time. ``run`` is what ``run.json`` says besides.
    """

    def __init__(self, parent: Path, make: MakeWriter, run: Mapping[str, Any]) -> None:
        self._parent = parent
        self._make = make
        self._run = dict(run)
        self._writer: ResultWriter | RemoteWriter | None = None
        self._since = 0.0
        self._now = 0.0
        self._session: SessionStarted | None = None
        self._changing = anyio.Lock()
        self.finished: list[Path] = []
        """The folders of the recordings that are complete."""

    @property
    def folder(self) -> Path | None:
        """Where the recording that goes on is written, None if there is none."""
        return None if self._writer is None else self._writer.folder

    async def start(self) -> Path:
        """Begin a recording, if none goes on; return its folder.

        :raises OutputError: if the folder cannot be made
        """
        async with self._changing:
            if self._writer is None:
                writer = await anyio.to_thread.run_sync(self._begun)
                if self._session is not None:
                    writer.event(attrs.evolve(self._session, at=0.0))
                self._since = self._now
                self._writer = writer
            return self._writer.folder

    async def stop(self) -> Path | None:
        """Complete the recording, if there is one or one begins; return its folder.

        :raises OutputError: if the disk refuses
        """
        with anyio.CancelScope(shield=True):
            return await self._completed()

    async def write(self) -> None:
        """Write what has been gathered for a second. The disk's refusal ends the recording, not the conversation.

        :raises OutputError: if the disk refuses
        """
        if not self._is_due:
            return
        async with self._changing:  # a file that is being completed takes no more from another thread
            writer = self._writer
            if writer is None:
                return
            try:
                await anyio.to_thread.run_sync(writer.flush)
            except OutputError:
                self._writer = None
                await anyio.to_thread.run_sync(writer.discard)
                raise

    def record(self, frame: Frame) -> None:
        """Take one time step of a local conversation."""
        if isinstance(self._writer, ResultWriter) and frame.at >= self._since:
            self._writer.record(attrs.evolve(frame, at=frame.at - self._since))
        self._now = frame.at + frame.user_pcm.size / self._rate

    def event(self, event: Event) -> None:
        """Take an event; one that began before the recording is told at its beginning."""
        if isinstance(event, SessionStarted):
            self._session = event
        if isinstance(event, AgentAudio):  # a remote conversation has no frames to tell the time
            self._now = max(self._now, event.at + self._frame_duration)
        if self._writer is not None:
            self._writer.event(attrs.evolve(event, at=max(event.at - self._since, 0.0)))

    def hear_user(self, pcm: Float32) -> None:
        """Take what the microphone gave, for a remote conversation."""
        if isinstance(self._writer, RemoteWriter):
            self._writer.hear_user(pcm)

    def hear_agent(self, pcm: Float32) -> None:
        """Take what the loudspeaker gets, for a remote conversation."""
        if isinstance(self._writer, RemoteWriter):
            self._writer.hear_agent(pcm)

    async def _completed(self) -> Path | None:
        async with self._changing:  # a slow disk may still be making the folder
            writer, self._writer = self._writer, None
            if writer is None:
                return None
            try:
                await anyio.to_thread.run_sync(writer.commit, self._run_now())
            finally:
                await anyio.to_thread.run_sync(writer.discard)
        self.finished.append(writer.folder)
        return writer.folder

    @property
    def _is_due(self) -> bool:
        return self._writer is not None and self._writer.due

    @property
    def _rate(self) -> int:
        return 24000 if self._session is None else self._session.sample_rate

    @property
    def _frame_duration(self) -> float:
        return 0.0 if self._session is None else self._session.frame_duration

    def _run_now(self) -> dict[str, Any]:
        session = {} if self._session is None else {"model": self._session.model, "seed": self._session.seed}
        seconds = round(max(self._now - self._since, 0.0), 6)
        return {**session, **self._run, "starts_at": round(self._since, 6), "seconds": seconds}

    def _begun(self) -> ResultWriter | RemoteWriter:
        """Return the writer of a new recording, in a folder that nobody else has.

        :raises OutputError: if the folder cannot be made
        """
        make_folder(self._parent)
        name = time.strftime("talk-%Y%m%d-%H%M%S")
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return self._make(next(filter(_claim, map(self._parent.joinpath, names))))


def _claim(folder: Path) -> bool:
    """Make a folder; tell whether it was not there, as it is where another call began in the same second.

    :raises OutputError: if the disk refuses
    """
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise output_error(folder, error) from None
    return True
