"""One call, whatever its wire, from its first message to its last: the queue, the conversation, and a clear end."""

import logging

import anyio
from anyio.abc import TaskGroup
from starlette.websockets import WebSocketDisconnect

from duplex.conversation.local import Conversation
from duplex.errors import CapacityError
from duplex.events import Event, Lag, SessionStarted
from duplex.server.account import CallAccount
from duplex.server.admission import Refusal
from duplex.server.caller_transport import CallerTransport
from duplex.server.close_reasons import CloseReason
from duplex.server.ending import Ending
from duplex.server.entry import Entry
from duplex.server.handover.kept_line import KeptLine
from duplex.server.handover.moving import keep_saving, move
from duplex.server.line import Line
from duplex.server.observers import Observers
from duplex.server.queueing import wait_for_place
from duplex.server.recording import Recorders, RecordingWriter
from duplex.server.served_models import Agreed, ServedModel
from duplex.server.service import Service
from duplex.server.steering import steer
from duplex.server.telling import FrameTeller
from duplex.server.wires.base import (
    Action,
    Audio,
    Begin,
    CallDescription,
    CallRequest,
    End,
    Finish,
    MuteUser,
    Present,
    Reply,
    Wire,
    WireMessage,
)
from duplex.server.wires.live_sideband import ObservedSession

__all__ = ["Call"]

log: logging.Logger = logging.getLogger(__name__)

SEAT_WAIT = 10.0
"""Seconds to wait for a place of the model, which others may use besides this server."""
BEGIN_TIMEOUT = 30.0
"""Seconds that a caller may take to say what is wanted."""


class Call:
    """A caller on a line."""

    def __init__(
        self,
        service: Service,
        line: Line[Wire],
        owner: str = "",
        agreed: Agreed | None = None,
        entry: Entry | None = None,
    ) -> None:
        """Make the call of whoever shows the token of an ``owner``, "" where none is wanted.

        What the caller gets may have been ``agreed`` on before; else the wire tells what is wanted.
        """
        self._service = service
        self.owner = owner
        self._line = line
        self._wire = line.wire
        self._entry = entry or Entry()
        self._account = CallAccount(service.metrics, owner, self._entry.trace)
        self._ending = Ending(self._account)
        self._wanted = anyio.Event()
        """Set when it is known what the caller wants."""
        self._conversation: Conversation | None = None
        self._recording: RecordingWriter | None = None
        self._request: CallRequest
        self._served: ServedModel
        self._description: CallDescription
        self._caller: CallerTransport
        self.observers: Observers
        self.observed: ObservedSession
        if agreed is not None:
            self._agree(*agreed)

    async def run(self) -> None:
        """Serve the caller until the call ends."""
        try:
            try:
                self._service.enter(self)
                with self._ending.scope:
                    await self._serve()
            except Exception:  # a thread that cannot be started, for one
                log.exception("a call could not begin")
                self._ending.end(CloseReason.FAILED)
            self._close_account()
            await self._ending.say_goodbye(self._line)
        finally:  # a server that stops waits until everybody has been told
            self._line.release()
            self._service.leave(self)

    def _close_account(self) -> None:
        reason, text = self._ending.reason
        self._account.end(reason)
        if self._account.began:
            self.observers.end(reason, text)

    async def move(self, url: str) -> None:
        """Have another server go on with the call, if it can."""
        store, line = self._service.store, self._line
        if store is None or self._conversation is None or not (isinstance(line, KeptLine) and line.generation):
            return
        if await move(store, line, self._conversation, url, self._service.metrics):
            self._ending.end(CloseReason.MOVED)

    async def _keep_saving(self, conversation: Conversation) -> None:
        """Save the call again and again, for the case that this process dies."""
        store, line = self._service.store, self._line
        if store is not None and isinstance(line, KeptLine):
            await keep_saving(store, line, conversation, self._service.metrics)
            self._ending.end(CloseReason.TAKEN_OVER)

    def shut_down(self) -> None:
        """End the call because the server stops."""
        self._ending.shut_down()

    async def _serve(self) -> None:
        async with anyio.create_task_group() as tasks:
            try:
                tasks.start_soon(self._listen)
                await self._line.send(self._wire.opened)
                with anyio.move_on_after(BEGIN_TIMEOUT):
                    await self._wanted.wait()
                if not self._wanted.is_set():
                    self._ending.end(CloseReason.SILENT)
                    return
                await self._let_in(tasks)
            except CapacityError:  # somebody beside this server uses the model
                self._ending.refuse(Refusal.WAITED)
            except Exception as error:  # noqa: BLE001 -- the caller is told, and whoever runs the server
                self._ending.fail(error, "a conversation failed")
            self._ending.end(CloseReason.FINISHED)

    def _agree(self, request: CallRequest, served: ServedModel, description: CallDescription) -> None:
        """Note what the caller wants and gets."""
        self._request, self._served, self._description = request, served, description
        self.observers = Observers(description.sample_rate)
        self._caller = CallerTransport(
            self._line,
            request,
            self.observers,
            sample_rate=description.sample_rate,
            metrics=self._service.metrics,
            coders=self._service.coders,
            trace=self._entry.trace,
            notice=self._service.notices.get(self._served.name) if self._entry.consent.notice else None,
        )
        self._wanted.set()

    async def _listen(self) -> None:
        """Take what the caller sends; what ends it ends the call."""
        try:
            while not self._ending.over:
                message = await self._line.receive()
                if message is None:
                    self._ending.end(CloseReason.HUNG_UP)
                    return
                if len(message) > self._line.max_message_bytes:
                    self._ending.end(CloseReason.TOO_LARGE)
                    return
                await self._take(message)
        except Exception as error:  # noqa: BLE001 -- as in the conversation
            self._ending.fail(error, "what a caller sent could not be taken")

    async def _take(self, message: WireMessage) -> None:
        """Hear what is said in a message, and do what is wanted."""
        for action in self._wire.receive(message):
            if not isinstance(action, Audio):
                self._line.keep_pace()
                await self.obey(action)
            elif self._wanted.is_set():
                await self._caller.hear(action.payload)

    async def obey(self, action: Action) -> None:
        """Do what the caller wants, or an observer; what makes no sense before the conversation is ignored."""
        match action:
            case Begin(request):
                if not self._wanted.is_set():
                    self._agree(*await self._service.models.settle(request))
            case Reply(message):
                await self._line.send(lambda: (message,))
            case End(reason, text):
                self._ending.end(reason, text)
            case Finish() if self._wanted.is_set():
                self._caller.hang_up()
            case Finish():
                self._ending.end(CloseReason.FINISHED)
            case MuteUser(muted) if self._wanted.is_set():
                self._caller.muted = muted
            case Present() if self._wanted.is_set():
                self._caller.heard_at = anyio.current_time()
            case _ if self._conversation is not None:
                await steer(self._conversation, action)
            case _:
                pass

    async def _let_in(self, tasks: TaskGroup) -> None:
        """Hold the conversation, when there is a place."""
        admission = self._served.admission
        caller = await admission.enter(self._line.address)
        if isinstance(caller, Refusal):
            self._ending.refuse(caller)
            return
        try:
            self._service.update()
            await self._line.send(self._wire.admitted, self._description)
            refusal = await wait_for_place(self._service, admission, caller, self._line)
            if refusal is None:
                await self._converse(tasks)
            else:
                self._ending.refuse(refusal)
        finally:
            admission.leave(caller)
            self._service.update()

    async def _converse(self, tasks: TaskGroup) -> None:
        settings, served = self._service.settings, self._served
        self._recording = self._service.recording(served.model) if self._entry.consent.recorded else None
        if self._recording is not None:
            tasks.start_soon(self._recording.run)
        if settings.idle_timeout and not self._wire.may_pause:
            tasks.start_soon(self._watch, settings.idle_timeout)
        teller = FrameTeller(self._line) if self._wire.tells_frames else None
        if teller is not None:
            tasks.start_soon(self._tell_frames, teller)
        with anyio.move_on_after(settings.session_limit or None) as limit:
            async with Conversation(
                served.model,
                self._caller,
                options=self._description.options,
                state=self._entry.saved,
                continues=None if self._entry.saved is None else self._entry.sequence,
                wait=SEAT_WAIT,
                recorder=Recorders(self.observers, self._recording, teller, self._entry.trace),
                audio_events=False,
                transcriber=None if self._description.recognition else self._service.transcriber,
                voices=served.voices,
                flush_on_pause=self._request.flush_on_pause,
            ) as conversation:
                self._conversation = conversation
                tasks.start_soon(self._keep_saving, conversation)
                self._begin(conversation.session_id)
                with self._service.observable(self):
                    async for event in conversation:
                        await self._tell(event)
            if teller is not None:
                await teller.finish()
        if limit.cancelled_caught:
            self._ending.end(CloseReason.TOO_LONG)

    async def _tell_frames(self, teller: FrameTeller) -> None:
        """Tell the caller of each frame."""
        try:
            await teller.run()
        except WebSocketDisconnect:
            self._ending.end(CloseReason.HUNG_UP)

    async def _watch(self, idle: float) -> None:
        """End the call when nobody has been there for so long, in the queue aside."""
        await self._caller.wait_idle(idle)
        self._ending.end(CloseReason.IDLE)

    def _begin(self, session_id: str) -> None:
        """Note that the conversation begins."""
        recording = None if self._recording is None else self._recording.path.name
        self._account.begin(session_id, self._served.name, recording)
        if self._recording is not None:
            about = {"session": session_id, "owner": self.owner, "model": self._served.name}
            self._recording.describe({**about, **self._entry.about})
        self.observed = ObservedSession(session_id=session_id, request=self._request, description=self._description)

    async def _tell(self, event: Event) -> None:
        """Tell the caller of an event."""
        if isinstance(event, Lag):
            self._account.lag(event)
        if self._recording is not None:
            self._recording.record_event(event)
        self.observers.tell(event)
        await self._line.send(self._wire.tell, event)
        if isinstance(event, SessionStarted):
            await self._line.offer()
            self._caller.announce()
