"""What all calls of one server share."""

import logging
import os
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from typing import Literal, Protocol, TypeAlias

import anyio
import numpy as np
from numpy.typing import NDArray
from starlette.websockets import WebSocket

import duplex
from duplex.concurrency.notifiers import Notifier
from duplex.engine.model import Model
from duplex.engine.workers import Workers
from duplex.server.admission import Door
from duplex.server.auth import Keys, Tokens
from duplex.server.handover.kept_line import KeptLine
from duplex.server.handover.moving import STORE_SECONDS
from duplex.server.handover.opening import open_store
from duplex.server.handover.stores import StateStore, StoreError
from duplex.server.handover.tokens import ResumeTokens
from duplex.server.logs import fields
from duplex.server.metrics import Metrics
from duplex.server.notice import load_notice
from duplex.server.observers import Observers
from duplex.server.recording import RecordingWriter
from duplex.server.retention import Retention
from duplex.server.served_models import ServedModels
from duplex.server.settings import Settings
from duplex.server.telemetry.protocol import Telemetry
from duplex.server.wires.base import Action
from duplex.server.wires.live_sideband import ObservedSession
from duplex.transcription.protocol import Transcriber

__all__ = ["ActiveCall", "Neighbours", "ObservedCall", "Service", "Sought"]

log: logging.Logger = logging.getLogger(__name__)

Sought: TypeAlias = Literal["line", "call"]


class ActiveCall(Protocol):
    """A call that is going on."""

    async def move(self, url: str) -> None:
        """Have another server go on with it, if it can."""
        ...

    def shut_down(self) -> None:
        """End it because the server stops."""
        ...


class ObservedCall(Protocol):
    """A call whose conversation has begun, for who is beside it."""

    @property
    def owner(self) -> str:
        """Whose token its caller showed."""
        ...

    @property
    def observed(self) -> ObservedSession:
        """What it is."""
        ...

    @property
    def observers(self) -> Observers:
        """Who listens to it."""
        ...

    async def obey(self, action: Action) -> None:
        """Do what somebody beside it wants."""
        ...


class Neighbours(Protocol):
    """The other processes of this server, which may have a call that somebody has come here for."""

    async def pass_on(self, sought: Sought, key: str, owner: str, websocket: WebSocket) -> bool:
        """Have the one answer a websocket that has what is sought, and return whether one has.

        That is a ``"line"`` that was broken, by its key, or a ``"call"``, by its session's id.
        """
        ...

    async def hang_up(self, session_id: str, owner: str) -> bool:
        """End the call of a session, if one of them has it; return whether one has."""
        ...


class Service:
    """The models of a server, its rules, and who is calling.

    :raises UsageError: if a token is too short, or two models have the same name
    """

    def __init__(
        self,
        models: Sequence[Model],
        settings: Settings,
        transcriber: Transcriber | None = None,
        telemetry: Telemetry | None = None,
        doors: Callable[[Model], Door] | None = None,
    ) -> None:
        """Make it; ``doors`` gives each model its admission, where that is not counted here."""
        self.models: ServedModels = ServedModels(models, settings, doors)
        self.transcriber = transcriber
        self.telemetry = telemetry
        self.settings = settings
        self.keys: Keys = Keys(Tokens(settings.tokens), twilio=settings.twilio_auth_token.encode() or None)
        self.metrics: Metrics = Metrics()
        self.metrics.build.info({"version": duplex.__version__})
        self.tell_metrics: Callable[[], Awaitable[bytes]] = self._own_metrics
        """Returns what Prometheus is told."""
        for served in self.models.all:
            self.metrics.describe(served.name, served.model)
        self.notices: Mapping[str, NDArray[np.float32]] = {
            served.name: load_notice(settings.notice, served.model.spec.sample_rate)
            for served in self.models.all
            if settings.notice is not None
        }
        """What callers by telephone hear first, by the models' names: float32 ``[samples]`` at their rates."""
        self.retention: Retention = Retention(
            settings.record, self.metrics, days=settings.record_days, gigabytes=settings.record_gigabytes
        )
        """Keeps recordings within limits."""
        self.looking: anyio.CapacityLimiter = anyio.CapacityLimiter(1)
        """Recordings are looked through for one at a time: who asks by the dozen takes one core at most from calls."""
        self.coders: Workers = Workers("duplex-coding", os.cpu_count() or 1)
        self.writers: Workers = Workers("duplex-recording", 1)
        self.resumable: ResumeTokens[KeptLine] = ResumeTokens()
        """Lines of calls whose callers may come back."""
        self.neighbours: Neighbours | None = None
        """Other processes of this server."""
        self._opened_store = None if settings.state_store is None else open_store(settings.state_store)
        self.store: StateStore | None = self._opened_store
        """Where conversations are kept that other servers may go on with; set it before the first call. One that is set
        stays its owner's to close."""
        self.next_place: Callable[[], str | None] = partial(next, cycle(settings.move_to or (None,)))
        """Returns the address of the server that a call moves to, ``None`` if there is none now."""
        self.changed: Notifier = Notifier()
        """Rung when somebody comes or goes."""
        self._calls: set[ActiveCall] = set()
        self._observed: dict[str, ObservedCall] = {}
        """Calls whose conversations have begun, by the sessions' ids."""
        self._watched = False
        """Whether somebody measures the event loop."""
        self._unwatched = Notifier()
        self._watching = ExitStack()

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, and keep recordings within limits, for ever, while nobody else does."""
        while self._watched:
            await self._unwatched.wait()
        self._watched = True
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.retention.run)
                tasks.start_soon(self.metrics.watch_loop)
        finally:
            self._watched = False
            self._unwatched.notify_all()

    async def _own_metrics(self) -> bytes:
        return self.metrics.text()

    def recording(self, model: Model) -> RecordingWriter | None:
        """Return the recorder of a new conversation, if there shall be one."""
        folder = self.settings.record
        return None if folder is None else RecordingWriter(folder, model.spec, self.metrics, self.writers)

    def enter(self, call: ActiveCall) -> None:
        """Count a call. Threads run, and models are watched, only meanwhile: a server that is gone leaves nothing."""
        if not self._calls:
            self._watching.enter_context(self.coders)
            self._watching.enter_context(self.writers)
            for served in self.models.all:
                observers = [each.observer(served.name) for each in (self.metrics, self.telemetry) if each is not None]
                for observer in observers:
                    self._watching.enter_context(served.model.seating.observed(observer))
        self._calls.add(call)
        self.update()

    def leave(self, call: ActiveCall) -> None:
        """Count it no longer."""
        self._calls.discard(call)
        if not self._calls:
            self._watching.close()
        self.update()

    @contextmanager
    def observable(self, call: ObservedCall) -> Generator[None]:
        """Let a call be found by its session's id."""
        session_id = call.observed.session_id
        self._observed[session_id] = call
        try:
            yield
        finally:
            if self._observed.get(session_id) is call:  # and not the same session's, which has come back meanwhile
                del self._observed[session_id]

    def find(self, session_id: str, owner: str) -> ObservedCall | None:
        """Return the call of a session, if it is that of this owner."""
        call = self._observed.get(session_id)
        return call if call is not None and call.owner == owner else None

    def update(self) -> None:
        """Tell everybody that something has changed."""
        for served in self.models.all:
            self.metrics.sessions.labels(served.name).set(served.admission.talking)
            self.metrics.queue.labels(served.name).set(served.admission.waiting)
        self.changed.notify_all()

    async def drain(self, seconds: float) -> None:
        """Let nobody in any more, wait so long for the conversations that go on, then end them.

        The connections of a store that was not set from outside are closed then.
        """
        if not self.models.default.admission.draining:
            log.info("draining", extra=fields(calls=len(self._calls), seconds=seconds))
        for served in self.models.all:
            served.admission.draining = True
        self.update()
        await self._move_calls()
        with anyio.move_on_after(seconds):
            while self._calls:
                await self.changed.wait()
        if self._calls:
            log.info("ending what still goes on", extra=fields(calls=len(self._calls)))
        for call in list(self._calls):
            call.shut_down()
        while self._calls:
            await self.changed.wait()
        await self._close_store()

    async def _close_store(self) -> None:
        if self._opened_store is None:
            return
        try:
            with anyio.fail_after(STORE_SECONDS):
                await self._opened_store.aclose()
        except (StoreError, TimeoutError, OSError) as error:
            log.warning("the store of conversations was not closed: %s", error)

    async def _move_calls(self) -> None:
        """Have other servers go on with all calls that can move."""
        async with anyio.create_task_group() as tasks:
            for call in list(self._calls):
                url = self.next_place() if self.store is not None else None
                if url is not None:
                    tasks.start_soon(call.move, url)
