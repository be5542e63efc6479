"""A conversation on a server's model, with the events of a local one.

1. Entering connects; the session begins when the server has a free place. Meanwhile ``queued`` gets the position.
2. The user's audio is sent at the pace of a clock, whatever the transport: a server accepts no more.
3. Events come from the server; the agent's audio is cut into frames here, and events are numbered here.
4. A lost connection ends the conversation, or begins a new session in it, as asked.
"""

import contextlib
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import anyio
import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.coding import coding
from duplex.audio.pcm import Framer, as_mono_float32
from duplex.conversation.dialogue import Dialogue, Task, check_transport
from duplex.conversation.playback import Playback
from duplex.conversation.session import EventQueue
from duplex.errors import ServerError
from duplex.events import AgentAudio, EndReason, Event, Lag, SessionEnded, Usage, event_from_dict
from duplex.extras import require
from duplex.options import SessionOptions
from duplex.parsing import parse_json
from duplex.transport import Transport
from duplex.transports import wire

__all__ = ["RemoteConversation", "connect"]

Float32 = NDArray[np.float32]
SAMPLE_RATE = 24000
FRAME_SIZE = 1920
"""Of the audio on the wire, whatever the model."""
FRAME_SECONDS = FRAME_SIZE / SAMPLE_RATE
CONNECT_SECONDS = 10.0
AHEAD_SECONDS = 0.2
"""Lead of a file's audio over the clock; a server takes a longer burst for a delay, and skips frames of it."""
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each attempt to connect again."""
_UNNUMBERED = -1
_LOST = 1006
_MAY_RESTART = (None, _LOST, 1001, 1011, 1012)
"""Close codes after which a new session makes sense: lost, gone, failed, about to restart."""


class RemoteConversation(Dialogue):
    """A conversation on the model of a server, used as :class:`duplex.Conversation` is; ``duplex.connect`` is short.

    :class:`duplex.Dialogue` says how a conversation begins and ends. ``url`` is the server's page or its websocket,
    ``token`` what it asks for. Sound travels as Opus, or with ``?format=pcm`` in the address as 16-bit samples, at
    eight times the bandwidth and without loss. ``sample_rate`` is that of pushed audio. ``on_lost="restart"`` begins a
    new session, with a ``SessionStarted`` of its own, when a connection is lost. ``queued`` is called with the position
    in the server's queue, from 1, while waiting in it. Without ``audio_events`` the agent's voice goes to the transport
    alone, and there is no ``AgentAudio``.

    A server sends no frames' tokens and keeps the model's state, so there is neither ``recorder`` nor ``export`` here.

    :raises UsageError: if ``url`` or ``transport`` is something else
    :raises ServerError: on entering, if nobody answers, or the server refuses; from the iterator, if it ends the
        conversation or the connection is lost
    """

    def __init__(  # noqa: PLR0913 -- what can be chosen about a call
        self,
        url: str,
        transport: Transport | None = None,
        *,
        options: SessionOptions | None = None,
        token: str | None = None,
        sample_rate: int = SAMPLE_RATE,
        on_lost: Literal["end", "restart"] = "end",
        queued: Callable[[int], None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        audio_events: bool = True,
    ) -> None:
        check_transport(transport)
        require("client", "opuslib", "websockets", purpose="a conversation on a server")
        # A server cannot be held back by a slow consumer, so the queue drops as in real time.
        super().__init__(transport, sample_rate, EventQueue(realtime=True, frame_duration=FRAME_SECONDS))
        self._url = _address(url, options or SessionOptions())
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._on_lost = on_lost
        self._queued = queued
        self._ssl_context = ssl_context
        self._audio_events = audio_events
        self._frames = 0
        self._user_finished = False
        """Whether the user's audio is over."""
        self._error = ""
        self._usage: Usage | None = None
        """Of the session that has finished."""
        self._paced_from, self._paced = 0.0, 0

    async def _open(self) -> Sequence[Task]:
        self._begun = anyio.Event()
        await self._connect()
        return self._receive_sessions, self._send_user_audio

    async def _connect(self) -> None:
        self._coding = coding("pcm" if "format=pcm" in self._url else "opus", SAMPLE_RATE)
        self._error = ""
        from duplex.transports.websocket import WebSocket  # noqa: PLC0415 -- the extra "client" brings what it needs

        self._websocket = await WebSocket.connect(
            self._url, self._headers, seconds=CONNECT_SECONDS, ssl_context=self._ssl_context
        )

    def _last_events(self, reason: EndReason) -> list[Event]:
        at = self._frames * FRAME_SECONDS
        usage = Usage(frames=self._frames, seconds=at, dropped_seconds=0.0)
        return [SessionEnded(sequence=_UNNUMBERED, at=at, reason=reason, usage=self._usage or usage)]

    def _release(self) -> None:
        """Release nothing: the task that reads the connection closes it."""

    def _reason(self, error: Exception) -> EndReason:
        if not isinstance(error, ServerError):
            return super()._reason(error)
        return EndReason.DISCONNECTED if self._begun.is_set() or self._frames else EndReason.REFUSED

    async def _receive_sessions(self) -> None:
        """Receive the messages of one session, or of several if it restarts."""
        while True:
            try:
                await self._receive_session()
            finally:
                await self._websocket.aclose()
            code = self._websocket.close_code
            if self._usage is not None:
                await self._playback.finish()
                self._end(EndReason.FINISHED)
                return
            if self._on_lost == "end" or code not in _MAY_RESTART or not self._begun.is_set():
                raise ServerError(self._error or _close_reason(code))
            await self._restart()

    async def _receive_session(self) -> None:
        """Receive the messages of one session."""
        framer = Framer(FRAME_SIZE)
        while True:
            try:
                message = wire.parse(await self._websocket.receive())
            except anyio.EndOfStream:
                return
            match message:
                case wire.Message(wire.Kind.HANDSHAKE):
                    await self._begin_session()
                case wire.Message(wire.Kind.AUDIO, payload):
                    for pcm in framer.push(self._coding.decode(payload)):
                        await self._receive_frame(pcm)
                case wire.Message(wire.Kind.METADATA, payload):
                    self._receive_metadata(payload)
                case wire.Message(wire.Kind.ERROR, payload):
                    self._error = payload.decode(errors="replace")
                case _:
                    pass

    async def _begin_session(self) -> None:
        """Begin to send audio: the server's session has begun."""
        header = self._coding.header()
        if header:
            await self._send(wire.audio(header))
        self._paced_from, self._paced = anyio.current_time(), 0
        self._begun.set()
        if self._user_finished:  # in the session before, which was lost
            await self._send(wire.metadata({"type": "Finish"}))

    async def _receive_frame(self, pcm: Float32) -> None:
        at = self._frames * FRAME_SECONDS
        self._frames += 1
        if self._audio_events:
            self._emit([AgentAudio(sequence=_UNNUMBERED, at=at, pcm=pcm)])
        self._queue.pass_frame()
        dropped = await self._playback.play(pcm)
        if dropped:
            behind = Playback.LIVE_FRAMES * FRAME_SECONDS
            lag = Lag(
                sequence=_UNNUMBERED, at=at - behind, behind=behind, dropped=dropped * FRAME_SECONDS, side="agent"
            )
            self._emit([lag])

    def _receive_metadata(self, payload: bytes) -> None:
        try:
            data: Any = parse_json(payload)
        except ValueError:
            return
        if not isinstance(data, dict):
            return
        metadata = cast("dict[str, Any]", data)
        event = event_from_dict(metadata)
        if isinstance(event, SessionEnded):
            self._usage = event.usage if event.reason is EndReason.FINISHED else None
        elif event is not None:
            self._emit([event])
        elif (
            metadata.get("type") == "Queued" and isinstance(metadata.get("position"), int) and self._queued is not None
        ):
            self._queued(metadata["position"])

    async def _restart(self) -> None:
        """Connect again, with growing pauses."""
        self._begun = anyio.Event()
        for pause in PAUSES:
            await anyio.sleep(pause)
            try:
                await self._connect()
            except ServerError as error:
                self._error = str(error)
            else:
                return
        raise ServerError(f"{self._error}; gave up after {len(PAUSES)} attempts")

    async def _send_user_audio(self) -> None:
        """Send the transport's audio to the server until it is over."""
        await self._transport.start(SAMPLE_RATE)
        framer = Framer(FRAME_SIZE)
        while True:
            try:
                pcm = await self._transport.receive()
            except anyio.EndOfStream:
                break
            for frame in framer.push(as_mono_float32(pcm)):
                await self._send_frame(frame)
        last = framer.flush()
        if last is not None:
            await self._send_frame(last)
        await self._begun.wait()
        self._user_finished = True
        await self._send(wire.metadata({"type": "Finish"}))

    async def _send_frame(self, frame: Float32) -> None:
        """Send a frame when it is due; a live one from before the session is dropped."""
        if self._transport.realtime:
            if not self._begun.is_set():
                return
        else:
            await self._begun.wait()
            await anyio.sleep_until(self._paced_from + self._paced * FRAME_SECONDS - AHEAD_SECONDS)
            self._paced += 1
        await self._send(wire.audio(self._coding.encode(frame)))

    async def _send(self, message: bytes) -> None:
        with contextlib.suppress(anyio.BrokenResourceError):  # the task that receives reports why
            await self._websocket.send(message)


connect = RemoteConversation
"""``async with duplex.connect("http://127.0.0.1:8998") as conversation``: start a conversation on a server."""


def _address(url: str, options: SessionOptions) -> str:
    """Return the websocket's address with the options in its query; ``url`` is that of the server's page or its own."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    chosen = attrs.asdict(options, filter=lambda _, value: value is not None)
    if chosen.pop("greedy"):
        chosen |= {"temperature": 0, "text_temperature": 0}
    query = urlencode({**dict(parse_qsl(parts.query)), **chosen, "events": "full"})
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") or "/api/chat", query, ""))


def _close_reason(code: int | None) -> str:
    if code in (None, _LOST):
        return "the connection to the server was lost; call again, or connect with on_lost='restart'"
    return f"the server ended the conversation (code {code}); call again"
