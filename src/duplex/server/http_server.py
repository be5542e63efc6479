"""Uvicorn as it runs here: its configuration, what accepts for it, and signals that ask before they end."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from types import FrameType
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from duplex.server.accept import Acceptor, Busiest, ConnectionLimit, Counted
from duplex.server.connections import WebSocketConnection
from duplex.server.http_connections import HttpConnection
from duplex.server.listening import Listening
from duplex.server.middleware import RootPath
from duplex.server.service import Service
from duplex.server.wires.table import WIRES

__all__ = ["HttpServer", "configuration", "most_calls"]

PING_SECONDS = 20.0
"""Between pings, and to answer one: who does not is gone, or does not read."""
MAX_HEADER_BYTES = 1 << 14
KEEP_ALIVE_SECONDS = 5
GRACE_SECONDS = 10
"""That connections may take to close once everything has been said."""


class HttpServer(uvicorn.Server):
    """Uvicorn, which asks instead of stopping at the first signal."""

    def __init__(
        self,
        config: uvicorn.Config,
        limit: ConnectionLimit,
        tls: ssl.SSLContext | None,
        *,
        asked: Callable[[], None],
        listens: Callable[[int], None],
        busiest: Busiest | None = None,
    ) -> None:
        super().__init__(config)
        self._busiest = busiest
        self._limit = limit
        self._tls = tls
        self._asked = asked
        self._listens = listens
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and tell the port: from here on signals are taken."""

        def handover(counted: Counted) -> HttpConnection:
            return HttpConnection(self.config, self.server_state, counted)

        # Uvicorn only closes them and waits for that.
        self.servers: list[asyncio.base_events.Server] = [
            cast("asyncio.base_events.Server", Acceptor(bound, self._limit, handover, self._tls, self._busiest))
            for bound in sockets or []
        ]
        self.started = True
        try:
            for bound in sockets or []:
                self._listens(bound.getsockname()[1])
        except BaseException:  # it may be another program's; uvicorn shuts down only what has started
            for server in self.servers:
                server.close()
            self._limit.close()
            raise

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections."""
        await super().shutdown(sockets)
        self._limit.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- uvicorn's signature
        """Take a signal."""
        self._signals += 1
        self._asked()
        if self._signals > 1:
            self.should_exit = self.force_exit = True


def most_calls(service: Service) -> int:
    """Return how many calls there can be, those who wait with them."""
    return sum(served.model.sessions + service.settings.queue for served in service.models.all)


def configuration(served: ASGIApp, where: Listening) -> uvicorn.Config:
    """Return how uvicorn is to run an application."""
    return uvicorn.Config(
        RootPath(served, where.root_path) if where.root_path else served,
        proxy_headers=bool(where.proxies),
        forwarded_allow_ips=list(where.proxies),
        ws=WebSocketConnection,
        ws_max_size=max(kind.max_message_bytes for kind in WIRES.values()),
        ws_per_message_deflate=False,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        http=HttpConnection,
        lifespan="off",
        access_log=False,
        log_level="warning",  # below, it tells the addresses of websockets, with the tickets in them
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
