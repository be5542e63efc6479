"""The agent's audio on its way to a transport, apart from the application's events."""

from collections import deque

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.transport import Transport
from duplex.wakeup import Bell

__all__ = ["Playback"]


class Playback:
    """A bounded line of frames, played by a task of its own.

    A transport that is busy never delays events: in real time the oldest frame that waits is dropped for the newest;
    otherwise whoever puts frames waits.
    """

    FRAMES = 60

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._waiting: deque[NDArray[np.float32]] = deque()
        self._news, self._space = Bell(), Bell()
        self._ended = False
        self._played = anyio.Event()

    async def run(self) -> None:
        """Play until :meth:`finish`."""
        while self._waiting or not self._ended:
            if self._waiting:
                pcm = self._waiting.popleft()
                self._space.ring()
                await self._transport.send(pcm)
            else:
                await self._news.wait()
        await self._transport.finish()
        self._played.set()

    async def play(self, pcm: NDArray[np.float32]) -> int:
        """Add a frame; return how many waiting ones were dropped for it."""
        dropped = 0
        while len(self._waiting) >= self.FRAMES:
            if self._transport.realtime:
                self._waiting.popleft()
                dropped += 1
            else:
                await self._space.wait()
        self._waiting.append(pcm)
        self._news.ring()
        return dropped

    async def finish(self) -> None:
        """Wait until everything has been played and the transport has finished."""
        self._ended = True
        self._news.ring()
        await self._played.wait()

    def close(self) -> None:
        """Let go of what was not played."""
        self._waiting.clear()
