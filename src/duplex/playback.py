"""The agent's audio on its way to a transport, apart from the application's events."""

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.transport import Transport

__all__ = ["Playback"]


class Playback:
    """A bounded line of frames, played by a task of its own.

    A transport that is busy never delays events: in real time the oldest frame that waits is dropped for the newest;
    otherwise whoever puts frames waits.
    """

    FRAMES = 60

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._put, self._waiting = anyio.create_memory_object_stream[NDArray[np.float32]](self.FRAMES)
        self._played = anyio.Event()

    async def run(self) -> None:
        """Play until :meth:`finish`."""
        async for pcm in self._waiting:
            await self._transport.send(pcm)
        await self._transport.finish()
        self._played.set()

    async def play(self, pcm: NDArray[np.float32]) -> int:
        """Add a frame; return how many waiting ones were dropped for it."""
        if not self._transport.realtime:
            await self._put.send(pcm)
            return 0
        try:
            self._put.send_nowait(pcm)
        except anyio.WouldBlock:
            self._waiting.receive_nowait()
            self._put.send_nowait(pcm)
            return 1
        return 0

    async def finish(self) -> None:
        """Wait until everything has been played and the transport has finished."""
        self._put.close()
        await self._played.wait()

    def close(self) -> None:
        """Let go of what was not played."""
        self._put.close()
        self._waiting.close()
