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

__all__ = ["BACKLOG", "ConnectionLimit", "Counted", "Handover", "descriptor_bound", "listen"]

BACKLOG = 1024
"""Connections that may wait to be accepted: many callers may come back at once."""
ACCEPTED_AT_ONCE = 32
"""Before the first of them can be closed again."""
HANDSHAKE_SECONDS = 30.0
"""That TLS may take to begin."""
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

    def add(self, abort: Callable[[], None]) -> "Counted":
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


@attrs.frozen(eq=False)
class Counted:
    """A connection that is counted, until :meth:`remove`."""

    limit: ConnectionLimit
    abort: Callable[[], None]

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


async def listen(
    bound: socket.socket, limit: ConnectionLimit, handover: Handover, tls: ssl.SSLContext | None
) -> asyncio.Server:
    """Accept connections of a bound socket."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Accepted(limit, handover, tls), sock=bound, backlog=ACCEPTED_AT_ONCE)
    bound.listen(BACKLOG)  # asyncio takes its backlog for how many it accepts at once, too
    return server


class _Accepted(asyncio.Protocol):
    """A connection that is counted, and speaks TLS if it has to, before it is handed over."""

    def __init__(self, limit: ConnectionLimit, handover: Handover, tls: ssl.SSLContext | None) -> None:
        self._limit = limit
        self._handover = handover
        self._tls = tls
        self._early = b""
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- of a socket
        """Count the connection."""
        counted = self._limit.add(transport.abort)
        if self._tls is None:
            self._hand_over(transport, counted)
        else:
            transport.pause_reading()  # what comes is for TLS
            self._handshake = asyncio.get_running_loop().create_task(self._begin_tls(transport, counted, self._tls))

    def data_received(self, data: bytes) -> None:
        """Keep what comes together with the end of the handshake."""
        self._early += data

    async def _begin_tls(self, transport: asyncio.Transport, counted: Counted, tls: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                transport, self, tls, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except OSError:  # no TLS, too slow, gone, or closed to make room
            counted.remove()
            return
        except BaseException:
            counted.remove()
            transport.abort()
            raise
        if secured is None or secured.is_closing():
            counted.remove()
            return
        self._hand_over(secured, counted)

    def _hand_over(self, transport: asyncio.Transport, counted: Counted) -> None:
        protocol = self._handover(counted)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._early:
            protocol.data_received(self._early)
