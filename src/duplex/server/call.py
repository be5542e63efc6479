"""One call, whatever its wire, from its first message to its last: the queue, the conversation, and a clear end.

A call ends for one reason, an :class:`CloseReason`: the one that comes first.
"""

import logging

import anyio
from anyio.abc import TaskGroup
from starlette.websockets import WebSocketDisconnect

from duplex.conversation.local import Conversation
from duplex.errors import AudioError, AudioFileError, CapacityError, ConsumerTooSlow, ModelStalledError, UsageError
from duplex.events import Event, Lag, SessionStarted
from duplex.server.admission import Refusal
from duplex.server.caller_transport import CallerTransport
from duplex.server.close_reasons import OF_REFUSAL, CloseReason
from duplex.server.line import Line
from duplex.server.logs import fields
from duplex.server.recording import RecordingWriter
from duplex.server.served_models import Agreed, ServedModel
from duplex.server.service import Service
from duplex.server.steering import steer
from duplex.server.wires.base import (
    Action,
    Audio,
    Begin,
    CallDescription,
    CallRequest,
    End,
    Finish,
    Reply,
)

__all__ = ["Call"]

log: logging.Logger = logging.getLogger(__name__)

KEEPALIVE = 5.0
"""Seconds between messages to a caller who waits: the original's page hangs up after ten without."""
CLOSE_TIMEOUT = 5.0
"""Seconds that the last messages may take."""
SEAT_WAIT = 10.0
"""Seconds to wait for a place of the model, which others may use besides this server."""
BEGIN_TIMEOUT = 30.0
"""Seconds that a caller may take to say what is wanted."""


class Call:
    """A caller on a line."""

    def __init__(self, service: Service, line: Line, owner: str = "", agreed: Agreed | None = None) -> None:
        """Make the call of whoever shows the token of an ``owner``, "" where none is wanted.

        What the caller gets may have been ``agreed`` on before; else the wire tells what is wanted.
        """
        self._service = service
        self._line = line
        self._wire = line.wire
        self._ending: tuple[CloseReason, str] | None = None
        self._scope = anyio.CancelScope()
        self._arrived = anyio.current_time()
        self._began: float | None = None
        """When the conversation began."""
        self._told: dict[str, object] = {"owner": owner} if owner else {}
        """What logs tell of it."""
        self._wanted = anyio.Event()
        """Set when it is known what the caller wants."""
        self._conversation: Conversation | None = None
        self._recording: RecordingWriter | None = None
        self._served: ServedModel
        self._description: CallDescription
        self._caller: CallerTransport
        if agreed is not None:
            self._agree(*agreed)

    async def run(self) -> None:
        """Serve the caller until the call ends."""
        try:
            self._service.enter(self)
            with self._scope:
                await self._serve()
        except Exception:  # a thread that cannot be started, for one
            log.exception("a call could not begin")
            self._end(CloseReason.FAILED)
        finally:
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

    async def _serve(self) -> None:
        async with anyio.create_task_group() as tasks:
            try:
                tasks.start_soon(self._listen)
                await self._line.send(self._wire.opened)
                with anyio.move_on_after(BEGIN_TIMEOUT):
                    await self._wanted.wait()
                if not self._wanted.is_set():
                    self._end(CloseReason.SILENT)
                    return
                await self._let_in(tasks)
            except ConsumerTooSlow:
                self._end(CloseReason.TOO_SLOW)
            except CapacityError:  # somebody beside this server uses the model
                self._send_away(Refusal.WAITED)
            except (UsageError, AudioFileError) as error:  # of what was asked for; the conversation has not begun
                self._end(CloseReason.BAD_REQUEST, str(error))
            except ModelStalledError:
                self._end(CloseReason.STALLED)
            except WebSocketDisconnect:
                self._end(CloseReason.HUNG_UP)
            except Exception:  # the caller is told, and whoever runs the server
                log.exception("a conversation failed")
                self._end(CloseReason.FAILED)
            self._end(CloseReason.FINISHED)

    def _agree(self, request: CallRequest, served: ServedModel, description: CallDescription) -> None:
        """Note what the caller wants and gets."""
        self._served, self._description = served, description
        self._caller = CallerTransport(
            self._line,
            request,
            sample_rate=description.sample_rate,
            metrics=self._service.metrics,
            coders=self._service.coders,
        )
        self._wanted.set()

    async def _listen(self) -> None:
        """Take what the caller sends; what ends it ends the call."""
        try:
            while self._ending is None:
                message = await self._line.receive()
                if message is None:
                    self._end(CloseReason.HUNG_UP)
                    return
                if len(message) > self._line.max_message_bytes:
                    self._end(CloseReason.TOO_LARGE)
                    return
                for action in self._wire.receive(message):
                    await self._do(action)
        except AudioError as error:
            self._end(CloseReason.BAD_AUDIO, str(error))
        except (UsageError, AudioFileError) as error:
            self._end(CloseReason.BAD_REQUEST, str(error))
        except WebSocketDisconnect:
            self._end(CloseReason.HUNG_UP)
        except Exception:  # as in the conversation
            log.exception("what a caller sent could not be taken")
            self._end(CloseReason.FAILED)

    async def _do(self, action: Action) -> None:
        """Do what the caller wants; what makes no sense before the conversation is ignored."""
        if isinstance(action, Audio):
            if self._wanted.is_set():
                await self._caller.hear(action.payload)
            return
        self._line.keep_pace()
        match action:
            case Begin(request):
                if not self._wanted.is_set():
                    self._agree(*await self._service.models.settle(request))
            case Reply(message):
                await self._line.send(lambda: (message,))
            case End(reason, text):
                self._end(reason, text)
            case Finish() if self._wanted.is_set():
                self._caller.hang_up()
            case Finish():
                self._end(CloseReason.FINISHED)
            case _ if self._conversation is not None:
                await steer(self._conversation, action)
            case _:
                pass

    async def _let_in(self, tasks: TaskGroup) -> None:
        """Hold the conversation, when there is a place."""
        admission = self._served.admission
        caller = admission.arrive(self._line.address)
        if isinstance(caller, Refusal):
            self._send_away(caller)
            return
        try:
            self._service.update()
            await self._line.send(self._wire.admitted, self._description)
            if await self._wait(caller):
                await self._converse(tasks)
        finally:
            admission.leave(caller)
            self._service.update()

    async def _wait(self, caller: int) -> bool:
        """Wait for a place, telling the caller how many are before; return whether there is one."""
        service, admission, told = self._service, self._served.admission, 0
        with anyio.move_on_after(service.settings.queue_timeout) as patience:
            while position := admission.position(caller):
                if admission.draining:
                    self._send_away(Refusal.DRAINING)
                    return False
                if position != told:
                    await self._line.send(self._wire.waiting, position)
                    told = position
                    continue  # it may have changed meanwhile
                with anyio.move_on_after(KEEPALIVE) as quiet:
                    await service.changed.wait()
                if quiet.cancelled_caught:
                    await self._line.send(self._wire.keep_alive)
        if patience.cancelled_caught:
            self._send_away(Refusal.WAITED)
        return not patience.cancelled_caught

    def _send_away(self, refusal: Refusal) -> None:
        """End the call of one who does not get a place."""
        self._service.metrics.refused.labels(refusal.value).inc()
        log.info("call refused", extra=fields(**self._told, reason=refusal.value))
        self._end(OF_REFUSAL[refusal])

    async def _converse(self, tasks: TaskGroup) -> None:
        settings, served = self._service.settings, self._served
        self._recording = self._service.recording(served.model)
        if self._recording is not None:
            tasks.start_soon(self._recording.run)
        if settings.idle_timeout and not self._wire.may_pause:
            tasks.start_soon(self._watch, settings.idle_timeout)
        with anyio.move_on_after(settings.session_limit or None) as limit:
            async with Conversation(
                served.model,
                self._caller,
                options=self._description.options,
                wait=SEAT_WAIT,
                recorder=self._recording,
                audio_events=False,
                transcriber=None if self._description.recognition else self._service.transcriber,
                voices=served.voices,
            ) as conversation:
                self._conversation = conversation
                self._begin(conversation.session_id)
                async for event in conversation:
                    await self._tell(event)
        if limit.cancelled_caught:
            self._end(CloseReason.TOO_LONG)

    async def _watch(self, idle: float) -> None:
        """End the call when no audio has come for so long, in the queue aside."""
        due = anyio.current_time() + idle
        while due > anyio.current_time():
            await anyio.sleep_until(due)
            due = max(due, self._caller.heard_at + idle)
        self._end(CloseReason.IDLE)

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
        if isinstance(event, Lag):
            self._service.metrics.lag.labels(event.side).inc()
            self._service.metrics.dropped.labels(event.side).inc(event.dropped)
        if self._recording is not None:
            self._recording.record_event(event)
        await self._line.send(self._wire.tell, event)
        if isinstance(event, SessionStarted):
            self._caller.announce()

    async def _say_goodbye(self) -> None:
        ending, text = self._ending or (CloseReason.FAILED, CloseReason.FAILED.text)
        if ending not in OF_REFUSAL.values() or self._began is not None:
            self._note_end(ending)
        if ending is CloseReason.HUNG_UP:
            return
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            try:
                await self._line.send(self._wire.goodbye, ending, text)
                await self._line.close(ending.code, ending.text)
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
