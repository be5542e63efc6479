"""uvicorn's websockets, asked whether somebody is there: every 20 s, and closely where the caller may come back.

An application finds what it can do in ``scope["state"]``:

- ``watch()``: notice from now on within seconds that nobody is there any more;
- ``answers()``: ask now, and return whether somebody is.
"""

import asyncio
import secrets
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import State

from duplex.server.silence import Silence

__all__ = ["WatchedConnection"]

TICK_SECONDS = 1.0
"""Between two looks at whether anything has come."""


class WatchedConnection(WebSocketsSansIOProtocol):
    """A websocket that can be watched."""

    _arrived: float
    """When what is taken now came."""
    _going_on: asyncio.TimerHandle | None
    """When what has come and waits for its turn is taken."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- uvicorn's
        """Begin."""
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, "watch": self.watch, "answers": self.answers}
        self._silence: Silence | None = None
        """Of one who is watched."""
        self._asked = b""
        self._answer: asyncio.Future[bool] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._take_answer(there=False)
        super().connection_lost(exc)

    def start_keepalive(self) -> None:
        """Begin to ask."""
        if self._silence is None:
            super().start_keepalive()
        else:
            self._look()

    def watch(self) -> None:
        """Notice within seconds, from now on, that nobody is there any more."""
        if self._silence is None:
            self._silence = Silence(self._arrived)
            self.stop_keepalive()
            if self.handshake_complete and not self.close_sent:
                self._look()

    async def answers(self) -> bool:
        """Ask whether somebody is there, and return whether there is an answer before the connection ends."""
        if self._gone:
            return False
        self._asked, self._answer = secrets.token_bytes(4), self.loop.create_future()
        self._ping(self._asked)
        return await self._answer

    def handle_pong(self, event: Frame) -> None:
        """Take an answer."""
        if self._asked and bytes(event.data) == self._asked:
            self._take_answer(there=True)
        super().handle_pong(event)

    @property
    def _gone(self) -> bool:
        return self.transport.is_closing() or self.conn.state is not State.OPEN

    def _look(self) -> None:
        """Look whether anything has come, ask if not, and let go of one who does not answer."""
        if self._silence is None or self._gone:
            return
        unread = self.read_paused or self._going_on is not None
        match self._silence.tick(self._arrived, unread=unread):
            case "ask":
                self._ping(b"")
            case "lost":
                self.transport.abort()
                return
            case None:
                pass
        self.ping_timer: asyncio.TimerHandle | None = self.loop.call_later(TICK_SECONDS, self._look)

    def _ping(self, payload: bytes) -> None:
        self.conn.send_ping(payload)
        self.transport.write(b"".join(self.conn.data_to_send()))

    def _take_answer(self, *, there: bool) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(there)
