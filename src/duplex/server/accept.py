"""Accepting connections: how many there may be, who makes room when there are too many, and TLS.

Descriptors are what a server runs out of first. Some are held in reserve for running calls; of the rest everybody may
have one until others need it: above the bound, the connection that has been open longest without holding a call is
closed, so that a caller gets in even while thousands of connections say nothing.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import attrs

__all__ = ["BACKLOG", "Acceptor", "ConnectionLimit", "Counted", "Handover", "descriptor_bound"]

BACKLOG = 1024
"""Connections that may wait to be accepted: many callers may come back at once."""
ACCEPTED_AT_ONCE = 32
"""Before the first of them can be closed again."""
HANDSHAKE_SECONDS = 30.0
"""That TLS may take to begin."""
REFUSED_SECONDS = 0.05
"""Until the next attempt when a connection could not be accepted."""
MAX_CONNECTIONS = 10_000
"""However many descriptors there are: each costs memory."""
MIN_CONNECTIONS = 16
_RESERVE = ACCEPTED_AT_ONCE + 32
"""Descriptors for what is accepted and not yet counted, and for files that are open for a moment."""
_RESERVE_OF_CALL = 3
"""Descriptors of a call besides its connection: a recording's two files, and what a restart of them takes."""


def descriptor_bound(calls: int) -> int:
    """Return how many connections a server of so many calls may have, by the descriptors this process may open."""
    try:
        import resource  # noqa: PLC0415 -- not on Windows, which has no such limit
    except ImportError:
        return MAX_CONNECTIONS
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    left = limit - len(list(Path("/dev/fd").iterdir())) - _RESERVE - _RESERVE_OF_CALL * calls
    return max(MIN_CONNECTIONS, min(left, MAX_CONNECTIONS))


class ConnectionLimit:
    """Counts connections; above ``bound`` it closes the oldest one that holds no call."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._open: set[Counted] = set()
        self._without_call: dict[Counted, None] = {}
        """The oldest first."""

    def __len__(self) -> int:
        return len(self._open)

    def add(self, abort: Callable[[], object]) -> "Counted":
        """Count a connection, which ``abort`` closes at once."""
        counted = Counted(self, abort)
        self._open.add(counted)
        self._without_call[counted] = None
        if len(self._open) > self.bound:
            oldest = next(iter(self._without_call))
            self.remove(oldest)
            oldest.abort()
        return counted

    def hold(self, counted: "Counted") -> None:
        """Note that a connection holds a call now."""
        self._without_call.pop(counted, None)

    def let_go(self, counted: "Counted") -> None:
        """Note that its call is over."""
        if counted in self._open:
            self._without_call[counted] = None

    def remove(self, counted: "Counted") -> None:
        """Count it no longer."""
        self._open.discard(counted)
        self._without_call.pop(counted, None)

    def close(self) -> None:
        """Close all that hold no call: the server has ended."""
        for counted in list(self._without_call):
            counted.abort()


@attrs.define(eq=False)
class Counted:
    """A connection that is counted, until :meth:`remove`."""

    limit: ConnectionLimit
    abort: Callable[[], object]
    """Closes it at once."""

    def hold(self) -> None:
        """Note that it holds a call now."""
        self.limit.hold(self)

    def let_go(self) -> None:
        """Note that its call is over."""
        self.limit.let_go(self)

    def remove(self) -> None:
        """Count it no longer: it is closed."""
        self.limit.remove(self)


Handover = Callable[[Counted], asyncio.Protocol]
"""Makes the protocol of a connection that has been counted."""


class Acceptor:
    """Accepts connections of a bound socket, and speaks TLS with them if it has to, until :meth:`close`.

    A connection counts from the moment it is accepted: one whose handshake never ends makes room like any other.
    """

    def __init__(
        self, bound: socket.socket, limit: ConnectionLimit, handover: Handover, tls: ssl.SSLContext | None
    ) -> None:
        bound.setblocking(False)
        bound.listen(BACKLOG)
        self._bound = bound
        self._limit = limit
        self._handover = handover
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._accepting = self._loop.create_task(self._accept())

    def close(self) -> None:
        """Accept no more; those whose handshake goes on are closed."""
        for task in (self._accepting, *self._opening):
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing more is accepted."""
        await asyncio.wait([self._accepting, *self._opening])

    async def _accept(self) -> None:
        while True:
            # A pause after some, so that they are counted, and who makes room for them is closed.
            for _ in range(ACCEPTED_AT_ONCE):
                try:
                    accepted, _ = await self._loop.sock_accept(self._bound)
                except OSError:  # no descriptor is left, or it is gone already
                    await asyncio.sleep(REFUSED_SECONDS)
                    continue
                task = self._loop.create_task(self._open(accepted))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            await asyncio.sleep(0)

    async def _open(self, accepted: socket.socket) -> None:
        this = asyncio.current_task()
        counted = self._limit.add(accepted.close if this is None else this.cancel)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: self._handover(counted),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_SECONDS,
            )
        except BaseException as error:
            counted.remove()
            accepted.close()
            if not isinstance(error, OSError):  # no TLS, too slow, or gone
                raise
        else:
            counted.abort = transport.abort
