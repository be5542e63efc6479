"""One call, from its first message to its last: the queue, the conversation, and a clear end.

A call ends for one reason, an :class:`CloseReason`: the one that comes first.
"""

import logging
from collections.abc import Mapping
from typing import Any, cast

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from duplex.audio.wire_codecs import create_wire_codec
from duplex.conversation.local import Conversation
from duplex.errors import AudioError, AudioFileError, CapacityError, ConsumerTooSlow, ModelStalledError, UsageError
from duplex.events import AgentText, Event, Lag, UserText
from duplex.parsing import parse_json
from duplex.server.admission import Refusal
from duplex.server.call_parameters import CallParameters
from duplex.server.caller_transport import CallerTransport
from duplex.server.close_reasons import OF_REFUSAL, CloseReason
from duplex.server.logs import fields
from duplex.server.served_models import ServedModel
from duplex.server.service import Service
from duplex.transports import wire

__all__ = ["Call"]

log: logging.Logger = logging.getLogger(__name__)

KEEPALIVE = 5.0
"""Seconds between messages to a caller who waits: the original's page hangs up after ten without."""
CLOSE_TIMEOUT = 5.0
"""Seconds that the last messages may take."""
SEAT_WAIT = 10.0
"""Seconds to wait for a place of the model, which others may use besides this server."""


class Call:
    """A caller on a websocket that has been accepted."""

    def __init__(
        self,
        service: Service,
        served: ServedModel,
        websocket: WebSocket,
        parameters: CallParameters,
        owner: str = "",
    ) -> None:
        """Make the call of whoever shows the token of an ``owner``, "" where none is wanted."""
        self._service = service
        self._served = served
        self._websocket = websocket
        self._parameters = parameters
        self._ending: tuple[CloseReason, str] | None = None
        self._scope = anyio.CancelScope()
        self._arrived = anyio.current_time()
        self._began: float | None = None
        """When the conversation began."""
        self._told: dict[str, object] = {"owner": owner} if owner else {}
        """What logs tell of it."""
        self._sending = anyio.Lock(fast_acquire=True)
        self._conversation: Conversation | None = None
        self._recording = service.recording(served.model)
        self._caller = CallerTransport(
            self._send,
            create_wire_codec(parameters.audio_format, served.model.spec.sample_rate),
            sample_rate=served.model.spec.sample_rate,
            metrics=service.metrics,
            coders=service.coders,
        )

    async def run(self) -> None:
        """Serve the caller until the call ends."""
        client = self._websocket.client
        caller = self._served.admission.arrive(client.host if client else "")
        if isinstance(caller, Refusal):
            self._send_away(caller)
        else:
            try:
                self._service.enter(self)
                with self._scope:
                    await self._serve(caller)
            except Exception:  # a thread that cannot be started, for one
                log.exception("a call could not begin")
                self._end(CloseReason.FAILED)
            finally:
                self._served.admission.leave(caller)
                self._service.leave(self)
        await self._say_goodbye()

    def shut_down(self) -> None:
        """End the call because the server stops."""
        if self._began is None:
            self._send_away(Refusal.DRAINING)
        self._end(CloseReason.DRAINING)

    def _end(self, ending: CloseReason, text: str = "") -> None:
        """End the call, unless it has been ended; whatever it waits for is cancelled."""
        if self._ending is None:
            self._ending = ending, text or ending.text
            self._scope.cancel()

    async def _serve(self, caller: int) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen)
            try:
                if not await self._wait(caller):
                    return
                if self._recording is not None:
                    tasks.start_soon(self._recording.run)
                if self._service.settings.idle_timeout:
                    tasks.start_soon(self._watch, self._service.settings.idle_timeout)
                await self._converse()
            except ConsumerTooSlow:
                self._end(CloseReason.TOO_SLOW)
            except CapacityError:  # somebody beside this server uses the model
                self._send_away(Refusal.WAITED)
            except (UsageError, AudioFileError) as error:  # of what was asked for; the conversation has not begun
                self._end(CloseReason.BAD_PROMPT, str(error))
            except ModelStalledError:
                self._end(CloseReason.STALLED)
            except WebSocketDisconnect:
                self._end(CloseReason.HUNG_UP)
            except Exception:  # the caller is told, and whoever runs the server
                log.exception("a conversation failed")
                self._end(CloseReason.FAILED)
            self._end(CloseReason.FINISHED)

    async def _listen(self) -> None:
        """Take what the caller sends; what ends it ends the call."""
        try:
            self._end(*await self._heard_out())
        except Exception:  # as in the conversation
            log.exception("what a caller sent could not be taken")
            self._end(CloseReason.FAILED)

    async def _heard_out(self) -> tuple[CloseReason, str]:
        """Take what the caller sends until something ends it."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return CloseReason.HUNG_UP, ""
            data = message.get("bytes")
            if data is None:
                return CloseReason.NOT_BINARY, ""
            try:
                await self._take(data)
            except AudioError as error:
                return CloseReason.BAD_AUDIO, str(error)
            except WebSocketDisconnect:
                return CloseReason.HUNG_UP, ""

    async def _take(self, data: bytes) -> None:
        message = wire.parse(data)
        if message is not None and message.kind is wire.Kind.AUDIO:
            await self._caller.hear(message.payload)
            return
        self._caller.keep_pace()
        if message is None:
            return
        if message.kind is wire.Kind.PING:
            await self._send(wire.ping())  # who asks can tell how long it takes
        elif message.kind is wire.Kind.METADATA:
            await self._obey(_record(message.payload))

    async def _obey(self, record: Mapping[str, Any]) -> None:
        """Do what a caller asks for beside the audio; what is unknown, or comes before the conversation, is ignored."""
        match record.get("type"), self._conversation:
            case "Finish", _:
                self._caller.hang_up()
            case "Interrupt", Conversation() as conversation:
                await conversation.interrupt()
            case "MuteAgent", Conversation() as conversation:
                await conversation.mute_agent(record.get("muted") is not False)
            case _:
                pass

    async def _wait(self, caller: int) -> bool:
        """Wait for a place, telling the caller how many are before; return whether there is one."""
        service, admission, told = self._service, self._served.admission, 0
        with anyio.move_on_after(service.settings.queue_timeout) as patience:
            while position := admission.position(caller):
                if admission.draining:
                    self._send_away(Refusal.DRAINING)
                    return False
                if position != told:
                    await self._send(wire.metadata({"type": "Queued", "position": position}))
                    told = position
                    continue  # it may have changed meanwhile
                with anyio.move_on_after(KEEPALIVE) as quiet:
                    await service.changed.wait()
                if quiet.cancelled_caught:
                    await self._send(wire.ping())
        if patience.cancelled_caught:
            self._send_away(Refusal.WAITED)
        return not patience.cancelled_caught

    def _send_away(self, refusal: Refusal) -> None:
        """End the call of one who does not get a place."""
        self._service.metrics.refused.labels(refusal.value).inc()
        log.info("call refused", extra=fields(**self._told, reason=refusal.value))
        self._end(OF_REFUSAL[refusal])

    async def _watch(self, idle: float) -> None:
        """End the call when no audio has come for so long, in the queue aside."""
        due = anyio.current_time() + idle
        while due > anyio.current_time():
            await anyio.sleep_until(due)
            due = max(due, self._caller.heard_at + idle)
        self._end(CloseReason.IDLE)

    async def _converse(self) -> None:
        settings, parameters = self._service.settings, self._parameters
        with anyio.move_on_after(settings.session_limit or None) as limit:
            async with Conversation(
                self._served.model,
                self._caller,
                options=parameters.options,
                wait=SEAT_WAIT,
                recorder=self._recording,
                audio_events=False,
                voices=self._served.voices,
                transcriber=self._service.transcriber,
            ) as conversation:
                self._conversation = conversation
                self._begin(conversation.session_id)
                async for event in conversation:
                    await self._tell(event)
        if limit.cancelled_caught:
            self._end(CloseReason.TOO_LONG)

    def _begin(self, session_id: str) -> None:
        """Note that the conversation begins."""
        self._began = anyio.current_time()
        self._service.metrics.queue_wait.observe(self._began - self._arrived)
        self._told["session"] = session_id
        if self._recording is not None:
            self._told["recording"] = self._recording.path.name
        log.info("call started", extra=fields(**self._told, waited=round(self._began - self._arrived, 1)))

    async def _tell(self, event: Event) -> None:
        """Tell the caller of an event."""
        if isinstance(event, AgentText):
            await self._send(wire.text(event.text))
        elif isinstance(event, UserText) and self._served.model.spec.kind == "stt":
            await self._send(wire.text(f" {event.text}"))
        elif isinstance(event, Lag):
            self._service.metrics.lag.labels(event.side).inc()
            self._service.metrics.dropped.labels(event.side).inc(event.dropped)
        if self._recording is not None:
            self._recording.record_event(event)
        if self._parameters.events:
            await self._send(wire.metadata(event.as_dict()))

    async def _send(self, message: bytes) -> None:
        async with self._sending:
            if self._websocket.application_state is WebSocketState.DISCONNECTED:
                raise WebSocketDisconnect
            try:
                await self._websocket.send_bytes(message)
            except RuntimeError:  # what uvicorn says while it closes a connection by itself
                raise WebSocketDisconnect from None

    async def _say_goodbye(self) -> None:
        ending, text = self._ending or (CloseReason.FAILED, CloseReason.FAILED.text)
        if ending not in OF_REFUSAL.values() or self._began is not None:
            self._note_end(ending)
        if ending is CloseReason.HUNG_UP:
            return
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            try:
                if ending is not CloseReason.FINISHED:
                    await self._websocket.send_bytes(wire.error(text))
                await self._websocket.close(ending.code, ending.text)
            except (WebSocketDisconnect, RuntimeError):
                log.debug("the caller was gone before the goodbye")

    def _note_end(self, ending: CloseReason) -> None:
        """Count the end of a call that was not refused."""
        reason, now = ending.name.lower(), anyio.current_time()
        self._service.metrics.ended.labels(reason).inc()
        if self._began is not None:
            self._service.metrics.call.observe(now - self._began)
        seconds = round(now - (self._began or self._arrived), 1)
        log.info("call ended", extra=fields(**self._told, reason=reason, seconds=seconds))


def _record(payload: bytes) -> Mapping[str, Any]:
    """Return the JSON object that a caller has sent; an empty one if it is none."""
    try:
        record: Any = parse_json(payload)
    except ValueError:
        return {}
    return cast("dict[str, Any]", record) if isinstance(record, dict) else {}
