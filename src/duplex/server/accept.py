"""Accepting connections: how many there may be, who makes room when there are too many, and TLS.

Descriptors are what a server runs out of first. Some are held in reserve for running calls; of the rest everybody may
have one until others need it: above the bound, the connection that has been open longest without holding a call is
closed, so that a caller gets in even while thousands of connections say nothing.
"""

import asyncio
import select
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import attrs

__all__ = ["BACKLOG", "Acceptor", "Busiest", "ConnectionLimit", "Counted", "Handover", "descriptor_bound"]

BACKLOG = 1024
"""Connections that may wait to be accepted: many callers may come back at once."""
ACCEPTED_AT_ONCE = 128
"""Connections that are accepted as fast as they come, be it all callers after a restart."""
ACCEPTED_PER_SECOND = 250.0
"""The same for long: what hundreds that come and go cost is a share of the event loop; who comes meanwhile waits."""
TURN_SECONDS = 0.01
"""Between two turns of those who send too much to be heard at once."""
LEAVE_SECONDS = 0.02
"""That a process with more connections than another leaves the next one to that; if nobody takes it, it does itself."""
PAUSE_SECONDS = 0.1
"""Until a connection is accepted again that could not be."""
HANDSHAKE_SECONDS = 30.0
"""That TLS may take to begin."""
MAX_CONNECTIONS = 10_000
"""However many descriptors there are: each costs memory."""
MIN_CONNECTIONS = 16
_RESERVE = 64
"""Descriptors for connections that are being closed, and for files that are open for a moment."""
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

    def __init__(self, bound: int, changed: Callable[[int], None] | None = None) -> None:
        """Make it; ``changed`` is told how many there are whenever that changes."""
        self.bound = bound
        self._changed = changed
        self._open: set[Counted] = set()
        self._without_call: dict[Counted, None] = {}
        """The oldest first."""

        self._next_turn = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def turn(self, now: float) -> float:
        """Return after how many seconds it is one's turn: who floods, or asks again and again, takes turns with others.

        Together they get a part of the event loop.
        """
        self._next_turn = max(now, self._next_turn) + TURN_SECONDS
        return self._next_turn - now

    def add(self, abort: Callable[[], object]) -> "Counted":
        """Count a connection, which ``abort`` closes at once."""
        counted = Counted(self, abort)
        self._open.add(counted)
        self._without_call[counted] = None
        self._tell()
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
        self._tell()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed(len(self._open))

    def close(self) -> None:
        """Close all that hold no call: the server has ended."""
        for counted in list(self._without_call):
            counted.abort()


@attrs.define(eq=False)
class Counted:
    """A connection that is counted, until :meth:`remove`."""

    limit: ConnectionLimit
    abort: Callable[[], object]

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
Busiest = Callable[[], bool]
"""Tells whether another process that accepts on the same socket has fewer connections than this one."""


class Acceptor:
    """Accepts connections of a bound socket, from the first turn of the event loop until it is closed.

    One is accepted in each turn, and so many a second: however many come, whoever talks is served between two of them.
    """

    def __init__(
        self,
        bound: socket.socket,
        limit: ConnectionLimit,
        handover: Handover,
        tls: ssl.SSLContext | None,
        busiest: Busiest | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._bound = bound
        self._limit = limit
        self._handover = handover
        self._tls = tls
        self._busiest = busiest
        self._tasks: set[asyncio.Task[None]] = set()
        """What accepts, and connections that have not been handed over."""
        bound.setblocking(False)
        self._start(self._accept())

    def close(self) -> None:
        """Accept no more."""
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing is left of it but connections that were handed over."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        left, since = float(ACCEPTED_AT_ONCE), self._loop.time()
        while True:
            await self._leave_to_others()
            try:
                accepted, _ = await self._loop.sock_accept(self._bound)
            except OSError:  # the caller is gone already, or the process has no descriptor left
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._start(self._begin(accepted))
            now = self._loop.time()
            left = min(ACCEPTED_AT_ONCE, left + (now - since) * ACCEPTED_PER_SECOND) - 1
            since = now
            await asyncio.sleep(max(0.0, -left / ACCEPTED_PER_SECOND))

    async def _leave_to_others(self) -> None:
        """Wait while another process has fewer connections; one that nobody has taken twice is not left any longer."""
        left = False
        while self._busiest is not None and self._busiest():
            await asyncio.sleep(LEAVE_SECONDS)
            waits = bool(select.select([self._bound], [], [], 0)[0])
            if waits and left:
                return
            left = waits

    async def _begin(self, accepted: socket.socket) -> None:
        """Count a connection, and hand it over as soon as it speaks TLS, if it has to."""
        counted = self._limit.add(cast("asyncio.Task[None]", asyncio.current_task()).cancel)
        try:
            await asyncio.sleep(0)  # here ends one that is too many itself
            transport = await self._connect(accepted, counted)
        except (OSError, asyncio.CancelledError):  # no TLS, too slow, gone, or closed to make room
            counted.remove()
            accepted.close()
            return
        counted.abort = transport.abort

    async def _connect(self, accepted: socket.socket, counted: Counted) -> asyncio.Transport:
        """Return a connection that has its protocol, and TLS if it has to.

        The event loop's own way from a socket to TLS is taken: begun on a connection that exists already, TLS misses
        the first bytes on uvloop, which reads before it can be told not to. Cancelled on that way, uvloop closes a
        connection without telling its protocol, which may have begun; so it goes to the end, unless TLS may take long.

        :raises OSError: if there is no TLS, it is too slow, or the caller is gone
        """
        connecting = self._loop.create_task(
            self._loop.connect_accepted_socket(
                lambda: self._handover(counted),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls else None,
            )
        )
        try:
            transport, _ = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            if self._tls is not None:
                connecting.cancel()
            transport, _ = await connecting
            transport.abort()
            raise
        return transport
