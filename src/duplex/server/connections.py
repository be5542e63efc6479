"""uvicorn's websockets, each with an end; :mod:`duplex.server.http_connections` has what they are before.

To close a connection means to send first what waits to be sent: where a caller does not read, it stays open. Here it is
cut off then, and so is one on which no request comes to its end. A connection is under a deadline in every phase, from
its first byte to its last: of an open websocket that is the answer to a ping (:mod:`duplex.server.watched`).
"""

import asyncio
import struct

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from websockets.protocol import State

from duplex.server.accept import Counted
from duplex.server.pace import FRAME_SECONDS, LeakyBucket
from duplex.server.watched import WatchedConnection

__all__ = ["CLOSE_SECONDS", "MAX_UNSENT_BYTES", "REQUEST_SECONDS", "WebSocketConnection"]

REQUEST_SECONDS = 30.0
"""That a connection may take for its first answer, and from each answer to the next."""
CLOSE_SECONDS = 12.0
"""That a call's connection may take to close; uvicorn waits 10 for the other side's goodbye on a websocket."""
ANSWER_SECONDS = 2.0
"""The same when the server ends: a page that sends sound all the time hears the goodbye first."""
QUIET_SECONDS = 1.0
"""Without a byte, after which one who was cut off is taken to have read why."""
MAX_UNSENT_BYTES = 1 << 13
"""Bytes that may wait to be sent before sending waits: two seconds of Opus. More would be heard late."""
MAX_UNTAKEN = 4
"""Messages that may wait to be taken by the call before no more is read."""
_NO_HANDSHAKE = (
    '{"error": "no websocket opens with this request; send a GET without a body, and no line of more than 8000 bytes"}'
)
_BINARY = 0x82
"""The first byte of a message of bytes in one frame (RFC 6455, section 5.2)."""
_SHORT_MESSAGE, _LONG_MESSAGE = 125, 0xFFFF
"""Bytes of a message whose length takes one byte, and two more."""
_LENGTH_FOLLOWS = 126
_LONG_HEADER = struct.Struct(">BBH")
PIECE = 1 << 12
"""Bytes that are parsed before they are counted."""
SMALL_PIECE = 1 << 9
"""The same for who floods, and at first: 85 frames at most, a few milliseconds."""
MANY_FRAMES = 16
"""In a piece; only who floods has frames so small."""
TURN_BYTES = 1 << 15
"""That are parsed in one turn of the event loop."""
BYTES_PER_SECOND = 1 << 17
"""That a connection may send for long: more than samples of 16 bit at 48 kHz."""
MAX_UNREAD_BYTES = 1 << 20
"""Bytes that may wait to be sent to one who keeps sending pings."""
MAX_DISCARDED_BYTES = 1 << 24
"""Bytes that one who is cut off may still send: they are read, so that the reason arrives, and thrown away."""


class WebSocketConnection(WatchedConnection):
    """A websocket: under a deadline until it is accepted, pinged from then on, and paid for by who sends."""

    _end: asyncio.TimerHandle | None = None
    counted: Counted | None = None
    """Set by the connection that this one was before."""
    close_timer: asyncio.TimerHandle | None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- uvicorn's
        """Begin."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        self._end = self.loop.call_later(REQUEST_SECONDS, transport.abort)
        self._arrived = self.loop.time()
        """When what is taken now came: that it had to wait is no credit."""
        self._pace = LeakyBucket(self._arrived)
        self._cut_off = False
        self._piece = SMALL_PIECE
        self._frames = 0
        """In the last piece."""
        self._piece_seconds = 0.0
        """That its bytes count for."""
        self._rest = b""
        """What has come and waits for its turn."""
        self._going_on: asyncio.TimerHandle | None = None
        self._discarded = 0
        self._quiet: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._clear_deadline()
        if self.counted is not None:
            self.counted.remove()
        if self.handshake_complete and not self.close_sent and self.conn.close_rcvd is None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})  # uvicorn says 1005: a goodbye
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, a piece at a time: whoever floods waits between them, and is cut off before all is parsed."""
        if self._going_on is None:
            self._arrived = self.loop.time()
            self._take(data)
        else:
            self._rest += data
            self.transport.pause_reading()

    def _take(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            if self._cut_off:
                self._discard(len(data) - start)
                return
            piece = data[start : start + self._piece]
            start += len(piece)
            self._frames, self._piece_seconds = 0, len(piece) / BYTES_PER_SECOND
            super().data_received(piece)
            many = self._frames > MANY_FRAMES
            self._piece = SMALL_PIECE if many else min(2 * self._piece, PIECE)
            if not self._cut_off and (many or TURN_BYTES <= start < len(data)):
                self._rest = data[start:]
                self.transport.pause_reading()
                wait = self.counted.limit.turn(self.loop.time()) if self.counted else 0.0
                self._going_on = self.loop.call_later(wait, self._go_on)
                return
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._refuse()

    def _go_on(self) -> None:
        """Take what has had to wait."""
        rest, self._rest, self._going_on = self._rest, b"", None
        if self.transport.is_closing():
            return
        self._take(rest)
        if self._going_on is None and not self.read_paused:
            self.transport.resume_reading()

    def handle_events(self) -> None:
        """Count what has come, and handle it."""
        self._frames = len(self.conn.events)
        seconds = max(self._frames * FRAME_SECONDS, self._piece_seconds)
        if self.handshake_initiated and not self._pace.pour(seconds, self._arrived):
            self._break_off()
            return
        super().handle_events()

    def send_receive_event_to_app(self) -> None:
        """Hand a message on. No text is understood, so none need be UTF-8, of which uvicorn would log an error.

        Reading stops only when several wait: uvicorn stops at each, which costs two calls of the kernel a message.
        """
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames: list[bytes] = []
        if self.close_sent:  # the call is over, and this side still waits for the other's goodbye
            return
        if self.curr_msg_data_type == "text":
            self.queue.put_nowait({"type": "websocket.receive", "text": data.decode(errors="replace")})
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": data})
        if not self.read_paused and self.queue.qsize() >= MAX_UNTAKEN:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_ping(self) -> None:
        """Answer a ping; nothing else holds back who sends them and does not read."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.transport.abort()

    def start_keepalive(self) -> None:
        """Go on without a deadline: from now on pings tell whether somebody is there."""
        self._clear_deadline()
        if self.counted is not None:
            self.counted.hold()
        super().start_keepalive()

    def keepalive_timeout(self) -> None:
        """Let go of one who has not answered a ping."""
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        """End because the server does."""
        if not self.handshake_initiated:  # nothing can be answered
            self.transport.abort()
        elif self.close_timer is None:
            super().shutdown()
        else:  # with something unread, closing at once would reset the connection, and the goodbye would be lost
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(ANSWER_SECONDS, self.transport.close)

    async def run_asgi(self) -> None:
        """Run the call; when it is over, the connection is too."""
        try:
            await super().run_asgi()
        finally:
            self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
            if self.counted is not None:
                self.counted.let_go()

    async def receive(self) -> ASGIReceiveEvent:
        """Return what comes next; more is not read while something waits for its turn."""
        message = await super().receive()
        if self._going_on is not None:
            self.transport.pause_reading()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send; a response in place of a handshake completes it, which uvicorn takes for an error."""
        if message["type"] == "websocket.send" and self._send_now(message.get("bytes")):
            return
        await super().send(message)
        if self.close_sent:
            self.handshake_complete = True

    def _send_now(self, data: bytes | None) -> bool:
        """Send a binary message in one write, if nothing is in its way; return whether it has been sent.

        What is made here is what ``websockets`` makes of it, in a tenth of the time: a frame of its own, unmasked.
        """
        plain = self.handshake_complete and self.conn.state is State.OPEN and not self.conn.extensions
        if data is None or not plain or self.disconnected or self.close_sent or not self.writable.is_set():
            return False
        if self.transport.is_closing() or len(data) > _LONG_MESSAGE:
            return False
        if len(data) > _SHORT_MESSAGE:
            self.transport.write(_LONG_HEADER.pack(_BINARY, _LENGTH_FOLLOWS, len(data)) + data)
        else:
            self.transport.write(bytes((_BINARY, len(data))) + data)
        return True

    def _clear_deadline(self) -> None:
        for timer in (self._end, self._quiet):
            if timer is not None:
                timer.cancel()

    def _refuse(self) -> None:
        """Answer a request that asks for a websocket and is no handshake (a POST, a body, a long address)."""
        self._cut_off = True
        head = f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(_NO_HANDSHAKE)}"
        self.transport.write(f"HTTP/1.1 400 Bad Request\r\n{head}\r\n\r\n{_NO_HANDSHAKE}".encode())
        self.transport.close()

    def _break_off(self) -> None:
        """End the connection of one who floods it, telling why if it is read."""
        self._cut_off = True
        self.stop_keepalive()
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1008})
            self.conn.fail(1008, "more comes than anybody can say; send at the pace of a clock")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        # With something unread, closing would reset the connection, and the reason would be lost: so what still comes
        # is read and thrown away, until no more comes for a moment.
        self.transport.resume_reading()
        # (With this timer uvicorn does not close when the call ends.)
        self.close_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
        self._quiet = self.loop.call_later(QUIET_SECONDS, self.transport.close)

    def _discard(self, size: int) -> None:
        """Throw away what comes after the end; of a flood not much."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = self.loop.call_later(QUIET_SECONDS, self.transport.close)
        self._discarded += size
        if self._discarded > MAX_DISCARDED_BYTES:
            self.transport.abort()
