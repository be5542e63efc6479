"""A client's websocket on anyio, so on asyncio and trio: the protocol is that of the library ``websockets``."""

import contextlib
import math
import ssl
from collections import deque
from collections.abc import Mapping
from typing import Any, Self, cast

import anyio
from anyio.abc import ByteStream
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from duplex.errors import ServerError, UsageError
from duplex.parsing import parse_json
from duplex.transports.redirection import RedirectedError

__all__ = ["WebSocket"]

MAX_MESSAGE_BYTES = 1 << 20
CLOSE_SECONDS = 2.0
QUIET_SECONDS = 20.0
"""Without a byte from the server before it is asked for one, and again before it counts as gone."""
_WENT_AWAY = 1001
_LOST = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError)
_BAD_REQUEST = 400
"""What is asked for cannot be used."""
_REDIRECT = 307


class WebSocket:
    """An open websocket; binary messages in and out."""

    def __init__(self, protocol: ClientProtocol, stream: ByteStream) -> None:
        self._protocol = protocol
        self._stream = stream
        self._sending = anyio.Lock()
        self._messages: deque[bytes] = deque()
        self._parts: list[bytes] = []
        self.quiet_seconds: float = math.inf
        """Without a byte from the server before it is asked for one, if that is less than usual."""

    @classmethod
    async def connect(
        cls, url: str, headers: Mapping[str, str], *, seconds: float, ssl_context: ssl.SSLContext | None = None
    ) -> Self:
        """Connect within so many seconds.

        :raises UsageError: if ``url`` is none
        :raises RedirectedError: if the server redirects
        :raises ServerError: if nobody answers, or the server refuses, with its reason
        """
        try:
            uri = parse_uri(url)
        except (InvalidURI, ValueError) as error:  # ValueError: of a port that is no number
            raise UsageError(f"{url!r} is no address of a websocket ({error}); give ws://host:port") from None
        try:
            with anyio.fail_after(seconds):
                if uri.secure:
                    stream: ByteStream = await anyio.connect_tcp(
                        uri.host, uri.port, ssl_context=ssl_context, tls=True, tls_standard_compatible=False
                    )
                else:
                    stream = await anyio.connect_tcp(uri.host, uri.port)
                made = cls(ClientProtocol(uri, max_size=MAX_MESSAGE_BYTES), stream)
                try:
                    await made._shake_hands(headers)
                except BaseException:
                    with anyio.CancelScope(shield=True):
                        await stream.aclose()
                    raise
        except TimeoutError:
            raise ServerError(f"{uri.host}:{uri.port} did not answer in {seconds:g} s; is a server there?") from None
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            raise ServerError(f"{uri.host}:{uri.port} cannot be reached ({error}); is the server running?") from None
        return made

    @property
    def close_code(self) -> int | None:
        """Why it was closed, ``None`` while it is open; 1006 if the connection was lost."""
        return self._protocol.close_code if self._protocol.state is State.CLOSED else None

    @property
    def close_reason(self) -> str:
        """What was said about it."""
        return self._protocol.close_reason or ""

    async def send(self, message: bytes) -> None:
        """Send a message.

        :raises anyio.BrokenResourceError: if the connection is over
        """
        if self._protocol.state is not State.OPEN:
            raise anyio.BrokenResourceError
        self._protocol.send_binary(message)
        await self._flush()

    async def receive(self) -> bytes:
        """Wait for the next message.

        :raises anyio.EndOfStream: when the connection is over; :attr:`close_code` says why
        """
        while not self._messages:
            if self._protocol.state is State.CLOSED:
                raise anyio.EndOfStream
            await self._read()
        return self._messages.popleft()

    async def aclose(self) -> None:
        """Say goodbye, and hang up when the other side has: with something unread the goodbye would be lost."""
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(_WENT_AWAY)
                await self._flush()
                with contextlib.suppress(*_LOST):
                    while True:
                        await self._stream.receive()
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()

    async def _shake_hands(self, headers: Mapping[str, str]) -> None:
        request = self._protocol.connect()
        request.headers.update(headers)
        self._protocol.send_request(request)
        await self._flush()
        answer: Response | None = None
        while answer is None:
            events = await self._read()
            answer = next((event for event in events if isinstance(event, Response)), None)
            if answer is None and self._protocol.handshake_exc is not None:
                raise ServerError(f"the server does not speak websocket ({self._protocol.handshake_exc})")
        if answer.status_code == _REDIRECT:
            raise RedirectedError("the server redirects, and what it says is not followed", bytes(answer.body or b""))
        if self._protocol.handshake_exc is not None:
            refusal = _refusal(answer, self._protocol.handshake_exc)
            raise UsageError(refusal) if answer.status_code == _BAD_REQUEST else ServerError(refusal)

    async def _read(self) -> list[Any]:
        """Take what the other side sends next."""
        try:
            self._protocol.receive_data(await self._hear())
        except (TimeoutError, *_LOST):
            self._protocol.receive_eof()
        events = cast("list[Any]", self._protocol.events_received())
        for event in events:
            if isinstance(event, Frame):
                self._take(event)
        await self._answer()
        return events

    async def _hear(self) -> bytes:
        """Wait for bytes.

        :raises TimeoutError: if none come for so long that the line must be dead
        """
        with anyio.move_on_after(self._quiet):
            return await self._stream.receive()
        with anyio.fail_after(self._quiet):
            if self._protocol.state is State.OPEN:
                self._protocol.send_ping(b"")
                await self._flush()
            return await self._stream.receive()

    def _take(self, frame: Frame) -> None:
        """Put a message together from its frames; the protocol answers the others by itself."""
        if frame.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                self._messages.append(b"".join(self._parts))
                self._parts.clear()

    @property
    def _quiet(self) -> float:
        return min(QUIET_SECONDS, self.quiet_seconds)

    async def _answer(self) -> None:
        """Send what the protocol says by itself.

        Where nothing is acknowledged any more, sending waits for ever: who reads would not notice that the line is dead
        if it waited with them, so somebody who is sending takes this along.
        """
        if self._sending.locked():
            return
        with anyio.move_on_after(2 * self._quiet) as sending:
            await self._flush()
        if sending.cancelled_caught:
            self._protocol.receive_eof()

    async def _flush(self) -> None:
        """Send what the protocol wants to be sent."""
        async with self._sending:
            while waiting := self._protocol.data_to_send():
                for data in waiting:
                    if not await self._write(data):
                        return

    async def _write(self, data: bytes) -> bool:
        """Send bytes, or the end if there are none; return whether there is still somebody to send to."""
        try:
            if data:
                await self._stream.send(data)
            else:
                await self._stream.send_eof()
        except (NotImplementedError, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            self._protocol.receive_eof()  # TLS cannot be closed by half; a broken one is over
            return False
        return True


def _refusal(answer: Response, error: Exception) -> str:
    """Return why a server refused, in its own words if it has some."""
    try:
        told = parse_json(answer.body or b"")["error"]
    except (ValueError, KeyError, TypeError):
        return f"the server refuses ({error}); is the address right?"
    return f"the server refuses ({answer.status_code}): {told}"
