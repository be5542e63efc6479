"""A recording as the user of a conversation, and the conversation's state at the recording's end."""

from collections.abc import Awaitable, Callable

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import UserChannel
from duplex.conversation.local import Conversation
from duplex.conversation.saved import SavedConversation
from duplex.errors import AudioFileError
from duplex.frame_model import Frame, ModelSpec
from duplex.process.recordings import Recording
from duplex.results.writer import ResultWriter
from duplex.transports.files import FileTransport

__all__ = ["Recorded", "StateKeeper"]


class Recorded(FileTransport):
    """A recording from sample ``skip`` on (at the model's rate), with ``tail`` seconds of silence after its end.

    Of a recording with a stretch only that is heard. ``at_end`` is awaited when everything has been given, with the
    number of its samples; then they are whole frames of ``frame_size``.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        user_channel: UserChannel,
        tail: float,
        skip: int = 0,
        frame_size: int = 1,
        at_end: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(recording.path, user_channel=user_channel)
        self._content = recording.content
        self._tail = tail
        self._skip = skip
        self._stretch = recording.stretch or (0.0, None)
        self._frame_size = frame_size
        self._at_end = at_end
        self._silence = self._rate = self._samples = self._given = 0

    @property
    def seconds(self) -> float:
        """Seconds of the recording that have been read."""
        return self._samples / self._rate if self._rate else 0.0

    async def start(self, sample_rate: int) -> None:
        """Open the recording."""
        await super().start(sample_rate)
        self._rate = sample_rate
        self._silence = round(self._tail * sample_rate)

    async def receive(self) -> NDArray[np.float32]:
        """Return the next second or so of the recording, and then of the silence."""
        pcm = await self._next()
        self._given += len(pcm)
        return pcm

    async def _next(self) -> NDArray[np.float32]:
        """Return the next piece that is to be heard."""
        begins, end = (None if each is None else round(each * self._rate) for each in self._stretch)
        start = (begins or 0) + self._skip
        while end is None or self._samples < end:
            try:
                pcm = await super().receive()
            except anyio.EndOfStream:
                self._check_stretch(begins or 0)
                break
            kept = pcm[max(start - self._samples, 0) : None if end is None else end - self._samples]
            self._samples += len(pcm)
            if len(kept):
                return kept
        return await self._after_it()

    def _check_stretch(self, begins: int) -> None:
        """Check that the recording has come to the sample where the stretch begins.

        :raises AudioFileError: if it ends before
        """
        if 0 < begins >= self._samples:
            raise AudioFileError(
                f"{self.path} has {self._samples / self._rate:.2f} s, but the stretch of it begins at "
                f"{begins / self._rate:g} s; mend its start"
            )

    async def _after_it(self) -> NDArray[np.float32]:
        """Return what comes after the recording.

        :raises anyio.EndOfStream: after that
        """
        if not self._silence and self._at_end is not None:
            self._silence = -self._given % self._frame_size
        samples = min(self._silence, self._rate)
        self._silence -= samples
        if samples:
            return np.zeros(samples, np.float32)
        if self._at_end is not None:
            await self._at_end(self._given)
        raise anyio.EndOfStream


class StateKeeper:
    """Saves a conversation when all of a recording has been heard: a recorder that passes frames on to ``writer``.

    ``first`` is the frame of the conversation with which the recording goes on.
    """

    def __init__(self, writer: ResultWriter, spec: ModelSpec, first: int) -> None:
        self._writer = writer
        self._spec = spec
        self._first = first
        self._come = -1
        self._changed = anyio.Event()

    def record(self, frame: Frame) -> None:
        """Take one time step."""
        self._writer.record(frame)
        self._come = round(frame.at * self._spec.frame_rate)
        self._changed.set()

    async def save(self, conversation: Conversation, samples: int) -> None:
        """Wait until so many samples have been heard; give the state to the writer."""
        end = self._first + samples // self._spec.frame_size
        while self._come < end - 1 - self._spec.latency_frames:
            self._changed = anyio.Event()
            await self._changed.wait()
        while True:
            state = await conversation.export()
            # A recording of a frame or two may be saved before anything of it has come out.
            if SavedConversation.from_bytes(state).resume_at(self._spec) == self._spec.seconds(end):
                return self._writer.keep_state(state)
