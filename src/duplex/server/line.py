"""A websocket under its wire: messages in, one after another out."""

from collections.abc import Callable, Iterable
from typing import Generic, ParamSpec, TypeVar

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from duplex.errors import AudioError
from duplex.server.pace import FRAME_SECONDS, LeakyBucket
from duplex.server.wires.base import WireMessage

__all__ = ["Line"]

Given = ParamSpec("Given")
AnyWire = TypeVar("AnyWire")


class Line(Generic[AnyWire]):
    """A websocket that has been accepted, and who speaks on it: a caller or an observer, by the wire."""

    def __init__(self, websocket: WebSocket, wire: AnyWire, max_message_bytes: int) -> None:
        self.wire = wire
        self.away: float = 0.0
        """Seconds that nobody was there before, of a call that goes on from another server."""
        self.max_message_bytes = max_message_bytes
        """Whatever the server lets through."""
        self._websocket = websocket
        self._sending = anyio.Lock(fast_acquire=True)
        self._pace = LeakyBucket(anyio.current_time())

    @property
    def address(self) -> str:
        """The caller's address, "" if it is not known."""
        client = self._websocket.client
        return client.host if client else ""

    async def send(
        self, make: Callable[Given, Iterable[WireMessage]], *args: Given.args, **kwargs: Given.kwargs
    ) -> None:
        """Send what the wire makes of something; what several tasks send goes out in the order in which it was made.

        :raises WebSocketDisconnect: if nobody is there any more
        """
        try:
            self._sending.acquire_nowait()
        except anyio.WouldBlock:
            await self._sending.acquire()
        try:
            for message in list(make(*args, **kwargs)):
                await self._send(message)
        finally:
            self._sending.release()

    @property
    def interrupted(self) -> bool:
        """Whether nobody is there for now, who may come back."""
        return False

    async def offer(self) -> None:
        """Tell the caller, whose conversation begins, how to come back when the line breaks."""

    async def restored(self) -> bool:
        """Wait until somebody is there; return whether that is so."""
        return True

    def take_lost_sounds(self) -> int:
        """Return how many messages of sound have been lost since this was asked last."""
        return 0

    def release(self) -> None:
        """Let go of what is held for who may come back: the call is over."""

    async def receive(self) -> WireMessage | None:
        """Return the caller's next message, ``None`` when the caller has gone."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        data: WireMessage | None = message.get("bytes")
        return message["text"] if data is None else data

    def keep_pace(self, seconds: float = 0.0) -> None:
        """Count a message, or the sound in it.

        :raises AudioError: if more comes than a clock allows
        """
        if not self._pace.pour(max(seconds, FRAME_SECONDS), anyio.current_time()):
            raise AudioError("audio comes faster than it is spoken; send it at the pace of a clock")

    def reset_pace(self) -> None:
        """Forget what was sent before the conversation began."""
        self._pace = LeakyBucket(anyio.current_time())

    async def close(self, code: int, reason: str) -> None:
        """Close the websocket."""
        await self._websocket.close(code, reason)

    async def _send(self, message: WireMessage) -> None:
        if self._websocket.application_state is WebSocketState.DISCONNECTED:
            raise WebSocketDisconnect
        try:
            if isinstance(message, str):
                await self._websocket.send_text(message)
            else:
                await self._websocket.send_bytes(message)
        except RuntimeError:  # what uvicorn says while it closes a connection by itself
            raise WebSocketDisconnect from None
