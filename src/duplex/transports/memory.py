"""A conversation's audio as arrays: for tests, for embedding, and for pushing audio by hand."""

from collections import deque

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import AudioLike, as_mono_float32, check_rate
from duplex.errors import ClosedError, UsageError
from duplex.transports.streams import ResampledReceiver

__all__ = ["MemoryTransport"]

_PIECE_SECONDS = 0.5


class MemoryTransport:
    """Delivers audio from memory as the user's, and keeps the agent's.

    With ``pcm`` (a float or int16 array, or bytes of 16-bit little-endian samples) it delivers that and ends. Without,
    another task calls :meth:`feed` as audio comes, and :meth:`end`; ``feed`` waits while more than
    ``max_pending_seconds`` have not been heard. ``sample_rate`` is that of the audio given; it is converted to the one
    the conversation starts with. ``realtime`` is only what the property tells the conversation: keeping real time's
    pace is the feeder's business.

    Everything the agent says stays in ``played``, frame by frame, until the transport is let go: 96 kB for a second at
    24 kHz; with ``keep=False`` nothing does.

    :raises AudioError: if ``pcm`` or ``sample_rate`` cannot be used
    :raises UsageError: if ``max_pending_seconds`` is not positive
    """

    def __init__(
        self,
        pcm: AudioLike | None = None,
        *,
        sample_rate: int = 24000,
        realtime: bool = False,
        max_pending_seconds: float = 5.0,
        keep: bool = True,
    ) -> None:
        if not max_pending_seconds > 0:
            raise UsageError(f"max_pending_seconds is {max_pending_seconds}; give a positive number")
        self.played: list[NDArray[np.float32]] = []
        self._sample_rate = check_rate(sample_rate)
        self._realtime = realtime
        self._keep = keep
        self._limit = max_pending_seconds * sample_rate
        self._waiting: deque[NDArray[np.float32]] = deque()  # at the rate they were given at
        self._waiting_samples = 0
        self._receiver: ResampledReceiver | None = None
        self._heard = 0
        self._ended = self._finished = self._closed = False
        self._changed = anyio.Condition()
        if pcm is not None:
            for piece in self._pieces(pcm):
                self._append(piece)
            self._ended = True

    @property
    def realtime(self) -> bool:
        """What the constructor was told."""
        return self._realtime

    @property
    def pending_seconds(self) -> float:
        """The audio that was given and has not been received."""
        return self._waiting_samples / self._sample_rate

    @property
    def finished(self) -> bool:
        """Whether all of the agent's audio has been sent."""
        return self._finished

    @property
    def agent_pcm(self) -> NDArray[np.float32]:
        """All the agent has said, float32 ``[samples]`` at the rate the conversation started with."""
        return np.concatenate(self.played) if self.played else np.zeros(0, dtype=np.float32)

    async def feed(self, pcm: AudioLike) -> None:
        """Give the user's next audio, of any length; waits while too much is pending. Call it from one task.

        :raises AudioError: if it has a type, shape or values that cannot be used; nothing of it is delivered
        :raises ClosedError: after :meth:`end` or :meth:`aclose`, also while it waits
        """
        self._check_feedable()
        for piece in self._pieces(pcm):
            async with self._changed:
                while self._waiting_samples > self._limit and not self._ended and not self._closed:
                    await self._changed.wait()
                self._check_feedable()
                self._append(piece)
                self._changed.notify_all()

    async def end(self) -> None:
        """Say that the user's audio is over; calling it twice is harmless."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def hear(self) -> NDArray[np.float32]:
        """Wait for the agent's next frame, float32 ``[frame_size]``; several callers get one each.

        :raises anyio.EndOfStream: when all frames have been heard and the conversation is over (``finished`` tells
            whether it came to its end)
        """
        async with self._changed:
            while self._heard == len(self.played):
                if self._finished or self._closed:
                    raise anyio.EndOfStream
                await self._changed.wait()
            self._heard += 1
            return self.played[self._heard - 1]

    async def start(self, sample_rate: int) -> None:
        """Open the line.

        :raises AudioError: if the rate is out of range
        :raises UsageError: if the transport has been started before
        :raises ClosedError: after :meth:`aclose`
        """
        if self._closed:
            raise ClosedError("the transport has been closed; make another")
        if self._receiver is not None:
            raise UsageError("the transport has been started already; make one for each conversation")
        self._receiver = ResampledReceiver(self._receive_piece, self._sample_rate, sample_rate)

    async def receive(self) -> NDArray[np.float32]:
        """Wait for the next of the user's audio, float32 ``[samples]``, half a second or less of what was given.

        :raises anyio.EndOfStream: when the user's audio is over
        :raises ClosedError: after :meth:`aclose`
        :raises UsageError: before :meth:`start`
        """
        if self._receiver is None:
            raise UsageError("the transport has not been started; await start(sample_rate) first")
        return await self._receiver.receive()

    async def send(self, pcm: NDArray[np.float32]) -> None:
        """Keep the agent's next frame, float32 ``[frame_size]``.

        :raises ClosedError: after :meth:`finish` or :meth:`aclose`
        """
        async with self._changed:
            if self._finished or self._closed:
                raise ClosedError("the agent's audio has been finished; start another conversation")
            if self._keep:
                self.played.append(np.array(pcm, dtype=np.float32))  # a copy: the model may use its buffer again
            self._changed.notify_all()

    async def finish(self) -> None:
        """All of the agent's audio has been sent."""
        async with self._changed:
            self._finished = True
            self._changed.notify_all()

    async def aclose(self) -> None:
        """Release the line: whoever waits is woken. Calling it twice is harmless."""
        self._closed = True
        # Shielded: a cancelled conversation must still wake those who wait.
        with anyio.CancelScope(shield=True):
            async with self._changed:
                self._changed.notify_all()

    def _pieces(self, pcm: AudioLike) -> list[NDArray[np.float32]]:
        """Cut what the caller gave into pieces of float32, copied once, as the caller may use its array again."""
        samples = np.array(as_mono_float32(pcm))
        size = max(round(_PIECE_SECONDS * self._sample_rate), 1)
        return [samples[start : start + size] for start in range(0, samples.size, size)]

    def _append(self, piece: NDArray[np.float32]) -> None:
        self._waiting.append(piece)
        self._waiting_samples += piece.size

    async def _receive_piece(self) -> NDArray[np.float32]:
        """Wait for the next piece at the rate it was given at.

        :raises anyio.EndOfStream: when there will be none
        :raises ClosedError: after :meth:`aclose`
        """
        async with self._changed:
            while not self._closed:
                if self._waiting:
                    # No await stands between taking a piece and returning it, so that cancellation loses nothing.
                    piece = self._waiting.popleft()
                    self._waiting_samples -= piece.size
                    self._changed.notify_all()
                    return piece
                if self._ended:
                    raise anyio.EndOfStream
                await self._changed.wait()
        raise ClosedError("the transport has been closed; make another")

    def _check_feedable(self) -> None:
        if self._closed:
            raise ClosedError("the conversation is over; feed another transport")
        if self._ended:
            raise ClosedError("the user's audio was ended; feed another transport")
