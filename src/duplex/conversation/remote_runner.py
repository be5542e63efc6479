"""Runs a conversation on a server's model, with the events of a local one.

1. Entering connects; the session begins when a server has a free place. Meanwhile ``queued`` gets the position.
2. The user's audio is sent at the pace of a clock, whatever the transport: a server accepts no more.
3. While there is none, pings tell the server that somebody is there, which it would otherwise take to be gone.
4. Events come from the server; the agent's audio is cut into frames here, and events are numbered here.
5. A connection that breaks is replaced, and the same conversation goes on (:mod:`duplex.conversation.remote_line`);
   where that cannot be, or is not wanted, it ends, or a new session begins in it, as asked.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Framer, as_mono_float32
from duplex.audio.wire_codecs import create_wire_codec
from duplex.conversation.playback import Playback
from duplex.conversation.remote_line import BUSY, LOST, RemoteLine, Resumed, close_reason, record_of
from duplex.conversation.runner import Runner, Task
from duplex.conversation.session import EventQueue
from duplex.errors import ServerError, UsageError
from duplex.events import AgentAudio, EndReason, Event, Lag, SessionEnded, Usage, event_from_dict
from duplex.transport import ExpectantTransport, Transport
from duplex.transports import wire
from duplex.transports.streams import Pacer

__all__ = ["SAMPLE_RATE", "RemoteRunner"]

Float32 = NDArray[np.float32]
SAMPLE_RATE = 24000
FRAME_SIZE = 1920
"""Of the audio on the wire, whatever the model."""
FRAME_SECONDS = FRAME_SIZE / SAMPLE_RATE
AHEAD_SECONDS = 0.2
"""Lead of a file's audio over the clock; a server takes a longer burst for a delay, and skips frames of it."""
PING_SECONDS = 1.0
"""Without audio, after which a ping goes in its place."""
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each attempt to connect again."""
_UNNUMBERED = -1
_MAY_RESTART = (*LOST, 1011, 1012)
"""Close codes after which a new session makes sense: lost, gone, failed, about to restart."""


class RemoteRunner(Runner):
    """Runs a conversation on the model of a server."""

    def __init__(
        self,
        line: RemoteLine,
        transport: Transport | None,
        *,
        sample_rate: int,
        on_lost: Literal["resume", "end", "restart"],
        queued: Callable[[int], None] | None,
        interrupted: Callable[[bool], None] | None,
        audio_events: bool,
    ) -> None:
        # A server cannot be held back by a slow consumer, so the queue drops as in real time.
        super().__init__(transport, sample_rate, EventQueue(realtime=True, frame_duration=FRAME_SECONDS))
        self.line = line
        self._on_lost = on_lost
        self._queued = queued
        self._interrupted = interrupted
        self._audio_events = audio_events
        self._frames = 0
        self._began = False
        """Whether the server's session has begun."""
        self._user_finished = False
        """Whether the user's audio is over."""
        self._sent = 0
        """Frames of it that have been sent."""
        self._error = ""
        self._usage: Usage | None = None
        """Of the session that has finished."""
        self._pacer = Pacer(AHEAD_SECONDS)
        self._resumed: Resumed | None = None
        """How it goes on after an interruption, until what was missed has come."""

    async def open(self) -> Sequence[Task]:
        """Acquire what the conversation needs; return the tasks that run it."""
        self._begun = anyio.Event()
        await self._connect()
        return self._receive_sessions, self._send_user_audio, self._ping

    async def _connect(self) -> None:
        self._error = ""
        await self.line.connect()

    def last_events(self, reason: EndReason) -> list[Event]:
        """Return the events that end the session."""
        at = self._frames * FRAME_SECONDS
        usage = Usage(frames=self._frames, seconds=at, dropped_seconds=0.0)
        return [SessionEnded(sequence=_UNNUMBERED, at=at, reason=reason, usage=self._usage or usage)]

    async def interrupt(self) -> None:
        """Let nothing more be heard of what the agent is saying."""
        self.playback.discard()
        await self.line.send(wire.metadata({"type": "Interrupt"}))

    async def mute_agent(self, muted: bool) -> None:
        """Let nothing be heard of the agent, or hear it again."""
        if muted:
            self.playback.discard()
        await self.line.send(wire.metadata({"type": "MuteAgent", "muted": muted}))

    async def press_key(self, key: str) -> None:
        """Note that the user pressed a key."""
        await self.line.send(wire.metadata({"type": "PressKey", "key": key}))

    def release(self) -> None:
        """Release nothing: a connection is closed by waiting."""

    async def hang_up(self) -> None:
        """Close the line, also one that no task has come to read."""
        await self.line.aclose()

    def release_abandoned(self) -> None:
        """Release nothing: a connection that nobody holds is closed."""

    def reason(self, error: BaseException) -> EndReason:
        """Return the reason that ``SessionEnded`` has for an error."""
        if isinstance(error, UsageError):  # the server's answer to what was asked for
            return EndReason.REFUSED
        if not isinstance(error, ServerError):
            return super().reason(error)
        return EndReason.DISCONNECTED if self._began or self._frames else EndReason.REFUSED

    async def _receive_sessions(self) -> None:
        """Receive the messages of one session, or of several if it restarts."""
        while True:
            try:
                await self._receive_messages()
            finally:
                await self.line.aclose()
            code = self.line.websocket.close_code
            if self._usage is not None:
                await self.playback.finish()
                self.end(EndReason.FINISHED)
                return
            if await self._resume() or (not self._began and code in BUSY and await self.line.try_next()):
                continue
            if self._on_lost != "restart" or code not in _MAY_RESTART or not self._began:
                raise ServerError(self._error or close_reason(code))
            await self._restart()

    async def _receive_messages(self) -> None:
        """Receive messages until the connection ends."""
        while True:
            try:
                message = await self.line.receive()
            except anyio.EndOfStream:
                return
            match message:
                case wire.Message(wire.Kind.HANDSHAKE):
                    await self._begin_session()
                case wire.Message(wire.Kind.AUDIO, payload):
                    for pcm in self._framer.push(self._codec.decode(payload)):
                        await self._receive_frame(pcm)
                case wire.Message(wire.Kind.METADATA):
                    self._receive_metadata(record_of(message))
                case wire.Message(wire.Kind.ERROR, payload):
                    self._error = payload.decode(errors="replace")
                case _:
                    pass
            self._pass_interruption()

    async def _begin_session(self) -> None:
        """Begin to send audio: the server's session has begun, and with it the audio of both sides."""
        self._codec, self._framer = create_wire_codec(self.line.audio_format, SAMPLE_RATE), Framer(FRAME_SIZE)
        header = self._codec.header()
        if header:
            await self.line.send(wire.audio(header))
        self._began = True
        await self._go_on()

    async def _go_on(self) -> None:
        """Let the user be heard."""
        self._pacer = Pacer(AHEAD_SECONDS)
        self._begun.set()
        if self._user_finished:  # on the connection before, which was lost
            await self.line.send(wire.metadata({"type": "Finish"}))

    async def _resume(self) -> bool:
        """Go on with the same conversation on another connection, if it can; return whether it does."""
        if self._on_lost == "end" or not self.line.resumable:
            return False
        self._begun = anyio.Event()
        self._tell_interrupted(True)
        try:
            self._resumed = await self.line.resume()
        except ServerError as error:
            self._error = str(error)
            return False
        self._tell_interrupted(False)
        self._pass_interruption(0)
        await self._go_on()
        return True

    def _tell_interrupted(self, interrupted: bool) -> None:
        if self._interrupted is not None:
            self._interrupted(interrupted)

    def _pass_interruption(self, messages: int = 1) -> None:
        """Let the time line pass over an interruption when all that was missed before it has come."""
        if self._resumed is None:
            return
        self._resumed = Resumed(self._resumed.again - messages, self._resumed.away)
        if self._resumed.again <= 0:
            self._frames += int(self._resumed.away / FRAME_SECONDS)
            self._resumed = None

    async def _receive_frame(self, pcm: Float32) -> None:
        at = self._frames * FRAME_SECONDS
        self._frames += 1
        if self._audio_events:
            self.emit([AgentAudio(sequence=_UNNUMBERED, at=at, pcm=pcm)])
        self.queue.pass_frame()
        dropped = await self.playback.play(pcm)
        if dropped:
            behind = Playback.LIVE_FRAMES * FRAME_SECONDS
            lag = Lag(
                sequence=_UNNUMBERED, at=at - behind, behind=behind, dropped=dropped * FRAME_SECONDS, side="agent"
            )
            self.emit([lag])

    def _receive_metadata(self, metadata: Mapping[str, Any]) -> None:
        event = event_from_dict(metadata)
        self.line.note_event(metadata.get("sequence"))
        if isinstance(event, SessionEnded):
            self._usage = event.usage if event.reason is EndReason.FINISHED else None
        elif event is not None:
            self.emit([event])
        elif metadata.get("type") == "Queued" and self._queued is not None:
            position = metadata.get("position")
            if isinstance(position, int):
                self._queued(position)
        elif metadata.get("type") == "Session":
            self.line.take_offer(metadata)
        elif metadata.get("type") == "Moved":
            self.line.follow(str(metadata.get("url")))

    async def _restart(self) -> None:
        """Connect again, with growing pauses, for a new session."""
        self._begun, self._began = anyio.Event(), False
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
        await self.transport.start(SAMPLE_RATE)
        framer = Framer(FRAME_SIZE)
        expectant = self.transport if isinstance(self.transport, ExpectantTransport) else None
        while True:
            if expectant is not None:
                expectant.expect(framer.missing)
            try:
                pcm = await self.transport.receive()
            except anyio.EndOfStream:
                break
            for frame in framer.push(as_mono_float32(pcm)):
                await self._send_frame(frame)
        last = framer.flush()
        if last is not None:
            await self._send_frame(last)
        await self._begun.wait()
        self._user_finished = True
        await self.line.send(wire.metadata({"type": "Finish"}))

    async def _ping(self) -> None:
        """Send pings while no audio is sent: who waits, or is muted, has not hung up."""
        while True:
            sent = self._sent
            await anyio.sleep(PING_SECONDS)
            if sent == self._sent and self._begun.is_set():
                await self.line.send(wire.ping())

    async def _send_frame(self, frame: Float32) -> None:
        """Send a frame when it is due; a live one from before the session is dropped."""
        if self.transport.realtime:
            if not self._begun.is_set():
                return
        else:
            await self._begun.wait()
            await self._pacer.wait(FRAME_SECONDS)
        self._sent += 1
        await self.line.send(wire.audio(self._codec.encode(frame)))
