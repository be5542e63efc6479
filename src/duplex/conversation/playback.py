"""The agent's audio to a transport, independent of the application's events."""

from collections import deque

import anyio
import numpy as np
from anyio.lowlevel import checkpoint
from numpy.typing import NDArray

from duplex.concurrency.notifiers import Notifier
from duplex.transport import Transport

__all__ = ["Playback"]


class Playback:
    """A bounded queue of frames, played by a task of its own.

    A transport that is busy never delays events: in real time the oldest frames are dropped, so that the agent is
    not heard late from then on; otherwise :meth:`play` waits.
    """

    FRAMES = 60
    """Limit of the queue for a transport that is not live."""
    LIVE_FRAMES = 12
    """Limit of the queue for a live transport, about a second of audio."""
    LEFT_FRAMES = 2
    """Frames that are kept when that limit is exceeded."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._waiting: deque[NDArray[np.float32]] = deque()
        self._frame_added, self._frame_taken = Notifier(), Notifier()
        self._sending = False
        self._ended = self._closed = False
        self._played = anyio.Event()

    async def run(self) -> None:
        """Play until :meth:`finish`."""
        while self._waiting or not self._ended:
            if self._waiting:
                pcm = self._waiting.popleft()
                self._frame_taken.notify_all()
                self._sending = True
                await self._transport.send(pcm)
                self._sending = False
                self._frame_taken.notify_all()
            else:
                await self._frame_added.wait()
        await self._transport.finish()
        self._played.set()

    async def play(self, pcm: NDArray[np.float32]) -> int:
        """Queue a frame; return how many waiting ones were dropped."""
        if self._transport.realtime:
            if self._waiting:
                await checkpoint()  # an idle transport takes each frame of a burst
            late = len(self._waiting) >= self.LIVE_FRAMES
        else:
            while len(self._waiting) >= self.FRAMES:
                await self._frame_taken.wait()
            late = False
        self._waiting.append(pcm)
        self._frame_added.notify_all()
        dropped = len(self._waiting) - self.LEFT_FRAMES if late else 0
        for _ in range(dropped):
            self._waiting.popleft()
        return dropped

    async def drain(self) -> None:
        """Wait until all that has come has been sent, or is discarded at the end."""
        while (self._waiting or self._sending) and not self._closed:
            await self._frame_taken.wait()

    async def finish(self) -> None:
        """Wait until everything has been played and the transport has finished."""
        self._ended = True
        self._frame_added.notify_all()
        await self._played.wait()

    def discard(self) -> None:
        """Put silence in the place of what waits to be played, which keeps its time."""
        self._waiting = deque(np.zeros_like(pcm) for pcm in self._waiting)

    def close(self) -> None:
        """Discard what was not played."""
        self._waiting.clear()
        self._closed = True
        self._frame_taken.notify_all()
