"""The websocket to a server, and another in its place when it has broken.

1. The server tells when the session begins how to come back: a token, good once, and how long it waits (``Session``).
2. From then on both sides count what the server sends, pings aside. Who comes back says how much has come, and gets
   the rest: nothing comes twice.
3. A websocket that breaks, or on which nothing comes, not even the answer to a ping, is replaced, with growing pauses,
   for as long as the server waits.
4. A file's sound that the server has not heard is sent again; a microphone's is not, as it would come late.
5. A cluster redirects to servers (:mod:`duplex.conversation.remote_places`): a new session begins at the first that
   lets the caller in. Who comes back asks where the session is, and in turn at the cluster, which knows where it went.
"""

import contextlib
import ssl
from collections import deque
from collections.abc import Mapping
from itertools import chain, count, repeat
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import anyio
import attrs

from duplex.audio.wire_codecs import AudioFormat
from duplex.conversation.remote_places import Place, Places, elsewhere, with_query
from duplex.errors import ServerError
from duplex.parsing import parse_json
from duplex.transports import wire
from duplex.transports.redirection import RedirectedError

if TYPE_CHECKING:
    from duplex.transports.websocket import WebSocket

__all__ = ["BUSY", "LOST", "RemoteLine", "Resumed", "close_reason", "record_of"]

CONNECT_SECONDS = 10.0
RETURN_SECONDS = 5.0
"""That an attempt to come back may take: one into a network that swallows everything only costs time."""
QUIET_SECONDS = 3.0
"""Without a byte before a server that waits for its callers is asked for one, and before it is given up."""
PAUSES = (0.0, 0.2, 0.4, 0.8, 1.5)
"""Seconds before each attempt to come back; the last one before all further ones, too."""
KEPT_SOUNDS = 64
"""Messages of sound that are kept to be sent again: five seconds."""
_LOST = 1006
LOST = (None, _LOST, 1001)
"""Close codes of a connection that was lost: none, or by who stands between."""
BUSY = (1012, 1013)
"""Those of a server that has no place now; another one at the same address, or this one in a moment, may have."""
_COUNTED = (wire.Kind.AUDIO, wire.Kind.TEXT, wire.Kind.METADATA, wire.Kind.ERROR)


@attrs.frozen
class Resumed:
    """How it goes on: first with ``again`` messages that were missed, then after ``away`` seconds that are gone."""

    again: int
    away: float


class RemoteLine:
    """A client's line to a server, at ``address``, with ``headers``; ``resends`` sound if nobody waits for it."""

    def __init__(
        self, address: str, headers: Mapping[str, str], ssl_context: ssl.SSLContext | None, *, resends: bool
    ) -> None:
        self.websocket: WebSocket
        self.audio_format: AudioFormat = AudioFormat("pcm" if "format=pcm" in address else "opus")
        self._home = self._address = address
        self._headers = headers
        self._ssl_context = ssl_context
        self._resends = resends
        self._forget()

    async def connect(self) -> None:
        """Connect, for a new session.

        :raises UsageError: if the address is none, or the server cannot do what is asked for
        :raises ServerError: if nobody answers, or the server refuses
        """
        self._forget()
        self._address = self._home
        try:
            self.websocket = await self._open(self._home, {}, CONNECT_SECONDS)
        except RedirectedError as redirected:
            self._places, self._placed = Places(redirected.answer), True
            await self._open_next()

    async def try_next(self) -> bool:
        """Ask for the session at the next place that a cluster told; return whether there was one.

        :raises ServerError: if there were some, and none answers
        """
        if self._places:
            await self._open_next()
            return True
        return False

    async def send(self, message: bytes) -> None:
        """Send a message; on a line that is broken it is lost, which who receives finds out."""
        if message[0] == wire.Kind.AUDIO:
            self._sent += 1
            if self._resends:
                self._sounds.append((self._sent, message))
        with contextlib.suppress(anyio.BrokenResourceError):
            await self.websocket.send(message)

    async def receive(self) -> wire.Message | None:
        """Return the next message; ``None`` for one that means nothing.

        :raises anyio.EndOfStream: when the websocket has ended
        """
        if self._before:
            return self._before.popleft()
        message = wire.parse(await self.websocket.receive())
        if message is not None and self._token and message.kind in _COUNTED:
            self._received += 1
        return message

    def note_event(self, sequence: object) -> None:
        """Note the number of an event that has come."""
        if isinstance(sequence, int):
            self._next_event = sequence + 1

    def follow(self, url: str) -> None:
        """Note that the conversation goes on at another server (``Moved``), whose page or websocket is at ``url``."""
        self._received -= 1  # this does not count
        address = elsewhere(self._address, url)
        if address is not None:
            self._address = address
            self._moved = True

    def take_offer(self, session: Mapping[str, Any]) -> Resumed:
        """Take what the server says about coming back (``Session``), and what that says about what comes next."""
        if self._token:
            self._received -= 1  # these do not count
        self._token, self._seconds = str(session.get("resume", "")), float(session.get("seconds", 0.0))
        self.websocket.quiet_seconds = QUIET_SECONDS
        self._heard = int(session.get("heard", 0))
        return Resumed(int(session.get("again", 0)), float(session.get("away", 0.0)))

    @property
    def resumable(self) -> bool:
        """Whether the line has broken and the server waits."""
        return bool(self._token) and (self._moved or self.websocket.close_code in LOST)

    async def resume(self) -> Resumed:
        """Come back on another websocket.

        :raises ServerError: if the server does not want that, or does not answer for as long as it waits
        """
        self._moved = False
        until, error = anyio.current_time() + self._seconds, "it was not tried"
        for attempt, pause in zip(count(), chain(PAUSES, repeat(PAUSES[-1])), strict=False):
            left = until - anyio.current_time() - pause
            if left <= 0:
                break
            await anyio.sleep(pause)
            query = {"resume": self._token, "received": str(self._received), "sequence": str(self._next_event)}
            try:
                self.websocket = await self._find(query, min(RETURN_SECONDS, left), home=attempt % 2 == 1)
            except ServerError as failed:
                error = str(failed)
                continue
            resumed = await self._await_offer()
            if resumed is not None:
                await self._send_again()
                return resumed
        raise ServerError(f"the connection to the server was lost, and did not come back ({error}); call again")

    async def aclose(self) -> None:
        """Close the websocket."""
        await self.websocket.aclose()

    async def _open(self, address: str, query: Mapping[str, str], seconds: float) -> "WebSocket":
        """Open a websocket; a ``ticket`` in the query stands in for the headers."""
        from duplex.transports.websocket import WebSocket  # noqa: PLC0415 -- the extra "client" brings what it needs

        headers: Mapping[str, str] = {} if "ticket" in query else self._headers
        whole = with_query(address, query.items()) if query else address
        return await WebSocket.connect(whole, headers, seconds=seconds, ssl_context=self._ssl_context)

    async def _open_next(self) -> None:
        """Open a websocket at the first of the places that are left, and answers.

        :raises ServerError: if none does
        """
        refusal: ServerError | None = None
        while self._places:
            try:
                self.websocket = await self._open_at(self._places.next(), {}, CONNECT_SECONDS)
            except ServerError as error:
                refusal = error
            else:
                return
        raise refusal or ServerError("the server knows of no place; call again")

    async def _open_at(self, place: Place, query: Mapping[str, str], seconds: float) -> "WebSocket":
        address = elsewhere(self._home, place.url)
        if address is None:
            raise ServerError(
                f"the server redirects to {place.url}, which has no TLS; ask whoever runs it to give it some"
            )
        self._address = address
        return await self._open(address, {**query, "ticket": place.ticket}, seconds)

    async def _find(self, query: Mapping[str, str], seconds: float, *, home: bool) -> "WebSocket":
        """Come back where the session is, or by way of ``home`` if that is a cluster, which may know better."""
        if not (home and self._placed):
            return await self._open(self._address, query, seconds)
        there = urlsplit(self._address)
        at = f"{there.scheme.replace('ws', 'http')}://{there.netloc}"
        try:
            return await self._open(self._home, {**query, "at": at}, seconds)
        except RedirectedError as redirected:
            return await self._open_at(Places(redirected.answer).next(), query, seconds)

    async def _await_offer(self) -> Resumed | None:
        """Wait for the next token; return ``None`` if this websocket breaks, too, before anything has come.

        :raises ServerError: if the server refuses
        """
        self.websocket.quiet_seconds = QUIET_SECONDS
        self._before.clear()
        refusal = ""
        while True:
            try:
                message = wire.parse(await self.websocket.receive())
            except anyio.EndOfStream:
                break
            if message is not None and message.kind is wire.Kind.ERROR:
                refusal = message.payload.decode(errors="replace")
            session = record_of(message)
            if message is not None and session.get("type") != "Session":
                if message.kind is wire.Kind.HANDSHAKE:  # another server, which counts anew
                    self._sent = 0
                    self._sounds.clear()
                self._before.append(message)
            elif session:
                self._received += 1  # which take_offer takes back
                return self.take_offer(session)
        await self.websocket.aclose()
        if self.websocket.close_code not in (*LOST, *BUSY):
            why = refusal or f"code {self.websocket.close_code}"
            raise ServerError(f"the connection to the server was lost, and it does not go on: {why}")
        return None

    async def _send_again(self) -> None:
        """Send what was sent and not heard."""
        for number, message in tuple(self._sounds):
            if number > self._heard:
                with contextlib.suppress(anyio.BrokenResourceError):
                    await self.websocket.send(message)

    def _forget(self) -> None:
        self._token = ""
        self._moved = False
        self._next_event = 0
        self._places = Places()
        self._placed = False
        """Whether a cluster has told where the session is."""
        self._before: deque[wire.Message] = deque()
        """What has come before the server's offer, of a conversation that goes on at another one."""
        self._seconds = 0.0
        self._received = self._sent = self._heard = 0
        self._sounds: deque[tuple[int, bytes]] = deque(maxlen=KEPT_SOUNDS)


def close_reason(code: int | None) -> str:
    """Return what a caller is told of a line that was closed, and is not replaced."""
    if code in LOST:
        return "the connection to the server was lost; call again"
    return f"the server ended the conversation (code {code}); call again"


def record_of(message: wire.Message | None) -> Mapping[str, Any]:
    """Return the JSON object that a message carries; an empty one if it carries none."""
    if message is None or message.kind is not wire.Kind.METADATA:
        return {}
    try:
        record: Any = parse_json(message.payload)
    except ValueError:
        return {}
    return cast("dict[str, Any]", record) if isinstance(record, dict) else {}
