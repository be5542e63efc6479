"""uvicorn's connections on which something is asked over HTTP, perhaps a websocket: each with an end, and its turn."""

import asyncio

import h11
from uvicorn import Config
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from duplex.server import connections
from duplex.server.accept import Counted
from duplex.server.connections import WebSocketConnection

__all__ = ["HttpConnection"]


class HttpConnection(H11Protocol):
    """A connection that has not become a websocket."""

    def __init__(self, config: Config, server_state: ServerState, counted: Counted) -> None:
        super().__init__(config, server_state, {"hold": self._hold})
        self._application = self.app
        self.app: ASGI3Application = self._run
        self._counted = counted
        self._held = False
        """Whether what is answered is a call, which has no deadline here."""
        self._end: asyncio.TimerHandle | None = None
        self._answered = False
        self._turn: asyncio.TimerHandle | None = None
        """When the request that waits is taken."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- uvicorn's
        """Begin."""
        super().connection_made(transport)
        self._set_deadline(connections.REQUEST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._clear_deadline()
        if self._turn is not None:
            self._turn.cancel()
        self._counted.remove()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take a request; one after another on the same connection waits for its turn, or calls would wait for it.

        How often connections begin is bounded where they are accepted, and so is how often the first of each comes.
        """
        if self._turn is not None:
            return
        between = self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE
        if self._answered and between and self.conn.trailing_data[0]:
            self.flow.pause_reading()
            self._turn = self.loop.call_later(self._counted.limit.turn(self.loop.time()), self._take_turn)
            return
        super().handle_events()

    def on_response_complete(self) -> None:
        """Wait for another request."""
        self._answered, self._held = True, False
        self._counted.let_go()
        self._set_deadline(connections.REQUEST_SECONDS)
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Become a websocket."""
        self._clear_deadline()
        super().handle_websocket_upgrade(event)
        websocket = self.transport.get_protocol()
        if isinstance(websocket, WebSocketConnection):
            websocket.counted = self._counted

    def _hold(self) -> None:
        """Go on without a deadline, as a call, until the application returns: what answers here has one of its own."""
        self._held = True
        self._clear_deadline()
        self._counted.hold()

    async def _run(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Run the application; a call whose answer it leaves unfinished is no call any more.

        Uvicorn closes the connection then, which sends first what waits to be sent: to one who reads, or for ever.
        """
        cycle = self.cycle
        try:
            await self._application(scope, receive, send)
        finally:
            if self._held and not (cycle.response_complete or cycle.disconnected):
                self._counted.let_go()
                self._set_deadline(connections.CLOSE_SECONDS)

    def _take_turn(self) -> None:
        self._turn = None
        if not self.transport.is_closing():
            self.flow.resume_reading()
            super().handle_events()

    def _set_deadline(self, seconds: float) -> None:
        self._clear_deadline()
        self._end = self.loop.call_later(seconds, self.transport.abort)

    def _clear_deadline(self) -> None:
        if self._end is not None:
            self._end.cancel()
