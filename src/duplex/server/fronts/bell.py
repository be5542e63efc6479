"""What wakes the other process: how many records there are in which ring, 16 bytes on a socket."""

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
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end, self._read)

    def ring(self, ring: int, written: int) -> bool:
        """Tell the other process, from any thread; return whether that is possible: it may have stopped reading."""
        try:
            return self._end.send(_COUNT.pack(ring, written)) == _COUNT.size
        except BlockingIOError:
            return False
        except OSError:  # it is gone, which its link tells
            return True

    def close(self) -> None:
        """Hear and tell nothing more."""
        self._loop.remove_reader(self._end)
        self._end.close()

    def _read(self) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = self._rest + self._end.recv(_MOST)
        if not data:  # the other end is closed
            self._loop.remove_reader(self._end)
            return
        whole = len(data) - len(data) % _COUNT.size
        self._rest = data[whole:]
        for ring, written in dict(_COUNT.iter_unpack(data[:whole])).items():
            self._hear(ring, written)
