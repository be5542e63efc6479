"""uvicorn's connections, each with an end.

To close a connection means to send first what waits to be sent: where a caller does not read, it stays open. Here it is
cut off then, and so is one on which no request comes to its end.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["MOST_UNSENT", "HttpConnection", "WebSocketConnection"]

REQUEST_SECONDS = 30.0
"""That a connection may take for its first answer, and from each answer to the next."""
CLOSE_SECONDS = 12.0
"""That a websocket may take to close; uvicorn waits 10 for the other side's goodbye."""
MOST_UNSENT = 1 << 13
"""Bytes that may wait to be sent before sending waits: two seconds of Opus. More would be heard late."""
MOST_UNREAD = 1 << 20
"""Bytes that may wait to be sent to one who keeps sending pings."""


class HttpConnection(H11Protocol):
    """A connection that has not become a websocket."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- uvicorn's
        """Begin."""
        super().connection_made(transport)
        self._limit()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._unlimit()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for another request."""
        self._limit()
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Become a websocket."""
        self._unlimit()
        super().handle_websocket_upgrade(event)

    def _limit(self) -> None:
        self._unlimit()
        self._end = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _unlimit(self) -> None:
        if self._end is not None:
            self._end.cancel()


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A websocket."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- uvicorn's
        """Begin."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=MOST_UNSENT)

    def handle_ping(self) -> None:
        """Answer a ping; nothing else holds back who sends them and does not read."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > MOST_UNREAD:
            self.transport.abort()

    def keepalive_timeout(self) -> None:
        """Let go of one who has not answered a ping."""
        super().keepalive_timeout()
        self.transport.abort()

    async def run_asgi(self) -> None:
        """Run the call; when it is over, the connection is too."""
        try:
            await super().run_asgi()
        finally:
            self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
