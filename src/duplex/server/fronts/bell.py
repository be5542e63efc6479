"""What wakes the other process: how many records there are in which ring, 16 bytes on a socket.

A socket holds a few hundred of them. One that finds no room waits for it, in place of earlier ones of the same ring: a
count says all that those before it said. Which of two counts comes first is of no matter: the larger one counts.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

__all__ = ["Bell"]

_COUNT = struct.Struct("<qq")
_MOST = 1 << 16


class Bell:
    """One end of a pair of sockets. ``hear`` is called in the event loop with a ring and its count of records.

    Of what has come for a ring by then, only the last count is told.
    """

    def __init__(self, end: socket.socket, hear: Callable[[int, int], None]) -> None:
        end.setblocking(False)
        self._end = end
        self._hear = hear
        self._rest = b""
        self._waiting: dict[int, int] = {}
        """Counts that found no room, by rings."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end, self._read)

    def ring(self, ring: int, written: int) -> None:
        """Tell the other process, from any thread; if it is gone, which its link tells, nothing happens."""
        if not self._told(ring, written):
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                self._loop.call_soon_threadsafe(self._wait, ring, written)

    def close(self) -> None:
        """Hear and tell nothing more."""
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        self._end.close()

    def _told(self, ring: int, written: int) -> bool:
        """Return whether there is nothing to wait for."""
        try:
            self._end.send(_COUNT.pack(ring, written))  # whole, or not at all
        except BlockingIOError:
            return False
        except OSError:  # the other process is gone, or this end is closed
            pass
        return True

    def _wait(self, ring: int, written: int) -> None:
        if self._end.fileno() >= 0:
            self._waiting[ring] = max(written, self._waiting.get(ring, 0))
            self._loop.add_writer(self._end, self._ring_again)

    def _ring_again(self) -> None:
        for ring, written in list(self._waiting.items()):
            if not self._told(ring, written):
                return
            del self._waiting[ring]
        self._loop.remove_writer(self._end)

    def _read(self) -> None:
        try:
            data = self._end.recv(_MOST)
        except BlockingIOError:  # woken for nothing
            return
        except OSError:
            data = b""
        if not data:  # the other end is closed
            self._loop.remove_reader(self._end)
            return
        data = self._rest + data
        whole = len(data) - len(data) % _COUNT.size
        self._rest = data[whole:]
        counts: dict[int, int] = {}
        for ring, written in _COUNT.iter_unpack(data[:whole]):
            counts[ring] = max(written, counts.get(ring, 0))
        for ring, written in counts.items():
            self._hear(ring, written)
