"""Tells a caller of each frame, on wires that have words for frames."""

from collections import deque

from duplex.concurrency.notifiers import Notifier
from duplex.errors import ConsumerTooSlow
from duplex.frame_model import Frame
from duplex.server.line import Line
from duplex.server.wires.base import Wire

__all__ = ["FrameTeller"]


class FrameTeller:
    """A recorder that passes frames on to the caller, in order. :meth:`record` only queues; :meth:`run` tells."""

    MAX_WAITING = 750
    """Frames that a caller may be behind with reading: a minute."""

    def __init__(self, line: Line[Wire]) -> None:
        self._line = line
        self._frames: deque[Frame] = deque()
        self._news = Notifier()
        self._told = Notifier()

    def record(self, frame: Frame) -> None:
        """Take a time step.

        :raises ConsumerTooSlow: if the caller does not read
        """
        if len(self._frames) >= self.MAX_WAITING:
            raise ConsumerTooSlow("the caller reads too slowly; read while sending")
        self._frames.append(frame)
        self._news.notify_all()

    async def run(self) -> None:
        """Tell, until cancelled.

        :raises WebSocketDisconnect: if nobody is there any more
        """
        while True:
            while not self._frames:
                await self._news.wait()
            await self._line.send(self._line.wire.stepped, self._frames[0])
            self._frames.popleft()
            self._told.notify_all()

    async def finish(self) -> None:
        """Wait until all has been told."""
        while self._frames:
            await self._told.wait()
