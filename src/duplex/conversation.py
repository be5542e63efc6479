"""A conversation on a local model: audio in from a transport, events out, the agent's audio back.

Three tasks serve it: one listens (:mod:`duplex.listening`), one turns the model's results into events, and one plays
(:mod:`duplex.playback`). They fail into the conversation, never out of it: the consumer gets ``SessionEnded`` and then
the one original error.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Protocol, Self

import anyio
import attrs
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from numpy.typing import ArrayLike

from duplex.errors import CapacityError, ClosedError, ConsumerTooSlow, UsageError
from duplex.events import EndReason, Event
from duplex.frame_model import Frame, SessionOptions, SessionState
from duplex.listening import Listener
from duplex.model import Model
from duplex.playback import Playback
from duplex.saved import SavedConversation
from duplex.seat import Exported, Failed, Finished, Outcome, Seat, Skipped
from duplex.session import EventQueue
from duplex.transport import Transport
from duplex.transports.memory import MemoryTransport
from duplex.wakeup import Bell, Wakeup

__all__ = ["Conversation", "Recorder"]

SEED_BITS = 53
"""Of a seed drawn for a live session: what every reader of JSON keeps exactly."""


class Recorder(Protocol):
    """Is told every time step of a conversation, both sides of it, in order."""

    def record(self, frame: Frame) -> None:
        """Take one time step; ``frame.at`` jumps where frames were skipped."""
        ...


@attrs.define(eq=False)
class _Export:
    """A saved conversation that somebody waits for."""

    done: anyio.Event = attrs.Factory(anyio.Event)
    saved: SavedConversation | None = None
    error: Exception | None = None


class Conversation:
    """One full-duplex conversation, as an asynchronous context manager and iterator of events.

    With a ``transport`` the user's audio comes from there and the agent's goes there. Without one, push audio with
    :meth:`send` and end it with :meth:`finish` from another task, or iterate over :meth:`run`; ``sample_rate`` is that
    of the pushed audio (the model's own if left out). There is one consumer.

    ``wait`` is for how many seconds to wait for a free slot (not at all, if left out). ``state`` goes on with a
    conversation that :meth:`export` saved, with its options. ``recorder`` is told every frame.

    A normal end or a failure gives ``SessionEnded`` as the last event; a failure then raises the original error from
    the iterator. Leaving the block, ``break`` and cancellation end the session at once, without a further event.

    :raises CapacityError: on entering, if every place of the model is taken
    :raises ClosedError: on entering, if the model has been closed
    :raises StateError: if ``state`` is damaged
    """

    def __init__(
        self,
        model: Model,
        transport: Transport | None = None,
        *,
        options: SessionOptions | None = None,
        sample_rate: int | None = None,
        wait: float | None = None,
        state: bytes | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        spec = model.spec
        self.model = model
        self._pushed = MemoryTransport(sample_rate=sample_rate or spec.sample_rate, keep=False)
        self._own_transport = transport is None
        self._transport: Transport = self._pushed if transport is None else transport
        self._realtime = self._transport.realtime
        self._wait = wait
        self._recorder = recorder
        self._saved = None if state is None else SavedConversation.from_bytes(state)
        self._options = self._complete(options or SessionOptions())
        self._session = model.session()
        self.session_id = secrets.token_hex(8)
        first = 0
        if self._saved is not None:
            self.session_id, first = self._saved.session_id, self._saved.sequence
            self._session.restore(self._saved.session)
        self._queue = EventQueue(realtime=self._realtime, frame_duration=spec.frame_duration, first=first)
        self._exports: list[_Export] = []
        self._scopes: list[anyio.CancelScope] = []
        self._failure: Exception | None = None
        self._entered = self._over = self._failed = False

    async def __aenter__(self) -> Self:
        if self._entered:
            raise UsageError("this conversation has been used; make another")
        self._entered = True
        self._news, self._space, self._ended = Bell(), Bell(), Bell()
        self._wakeup = Wakeup()
        try:
            self._seat = await self._take_seat()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._transport.aclose()
            raise
        self._playback = Playback(self._transport)
        self._listener = Listener(self._transport, self._seat, self.model.spec, self._tell_late)
        self._running = 0
        self._tasks: TaskGroup = await anyio.create_task_group().__aenter__()
        seed = self._options.seed or 0
        self._emit(self._session.start(self.session_id, self.model.name, seed))
        for task in (self._listener.run, self._speak, self._playback.run):
            self._start(task)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over = True
        self._queue.clear()
        self._seat.close()
        self._release_exports()
        self._tasks.cancel_scope.cancel()
        # The tasks end before the block does, also when the block is being cancelled. An error of the block is not
        # shown to the task group, which would wrap it.
        try:
            with anyio.CancelScope(shield=True):
                while self._running:
                    await self._ended.wait()
                self._playback.close()
                await self._transport.aclose()
        finally:
            await self._tasks.__aexit__(None, None, None)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if not self._entered:
            raise UsageError("enter the conversation first: async with Conversation(...) as conversation")
        await checkpoint()
        while True:
            event = self._queue.take()
            if event is not None:
                self._space.ring()
                return event
            if self._over:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                raise StopAsyncIteration
            await self._news.wait()

    @property
    def resume_at(self) -> float:
        """Where the user's audio goes on, in seconds: 0, or what a saved conversation had heard by its export."""
        if self._saved is None:
            return 0.0
        return self.model.spec.seconds(int(self._saved.slot.tensors["seat.index"][0]))

    async def send(self, pcm: ArrayLike) -> None:
        """Push the user's next audio: a float or int16 array of any length.

        Waits while more than a few seconds are pending, so send from another task than the one that iterates. When the
        conversation has failed, audio is discarded: the iterator raises the error, and no other task a second one.

        :raises UsageError: if the conversation has a transport of its own
        :raises AudioError: if the array cannot be used
        :raises ClosedError: if the conversation is over
        """
        pushed = self._pushing()
        try:
            await pushed.feed(pcm)
        except ClosedError:
            if not self._failed:
                raise
            await checkpoint()

    async def finish(self) -> None:
        """End the pushed audio; the conversation ends when its last frame has been answered.

        :raises UsageError: if the conversation has a transport of its own
        """
        await self._pushing().end()

    def run(self, pcm: ArrayLike) -> AsyncIterator[Event]:
        """Push a whole recording and iterate over the events: ``async for event in conversation.run(pcm)``.

        :raises UsageError: if the conversation has a transport of its own
        """
        pushed = self._pushing()

        async def push() -> None:
            await pushed.feed(pcm)
            await pushed.end()

        if not self._over:  # a failure that came first is the iterator's to tell
            self._start(push)
        return self

    async def export(self) -> bytes:
        """Save the conversation as it is at the next frame boundary; it goes on afterwards.

        ``Conversation(model, ..., state=saved)`` goes on from there, in this process or another. Audio that has been
        given but not heard by then is not part of it.

        :raises ClosedError: if the conversation is over
        """
        if self._over or not self._entered:
            raise ClosedError("the conversation is not going on; export it while it is")
        export = _Export()
        self._exports.append(export)
        self._space.ring()
        self._seat.export()
        await export.done.wait()
        if export.error is not None:
            raise export.error
        if export.saved is None:
            raise ClosedError("the conversation ended before it could be exported")
        return await anyio.to_thread.run_sync(export.saved.to_bytes)

    def _complete(self, options: SessionOptions) -> SessionOptions:
        if self._saved is not None:
            return attrs.evolve(options, seed=self._saved.seed)
        if options.seed is None and self._realtime:
            options = attrs.evolve(options, seed=secrets.randbits(SEED_BITS))
        return options.with_defaults(self.model.defaults)

    def _pushing(self) -> MemoryTransport:
        if not self._own_transport:
            raise UsageError("this conversation hears its transport; leave the transport out to push audio")
        if not self._entered:
            raise UsageError("enter the conversation first: async with Conversation(...) as conversation")
        return self._pushed

    async def _take_seat(self) -> Seat:
        """Take a free place of the model, or wait for one as long as was asked."""
        vacancy = Wakeup()
        with self.model.engine.vacancies(vacancy.notify), anyio.move_on_after(self._wait or 0):
            while True:
                try:
                    return self._open_seat()
                except CapacityError:
                    await vacancy.wait()
        return self._open_seat()

    def _open_seat(self) -> Seat:
        slot = None if self._saved is None else self._saved.slot
        return self.model.engine.open(self._options, realtime=self._realtime, notify=self._wakeup.notify, state=slot)

    def _start(self, task: Callable[[], Awaitable[None]]) -> None:
        self._running += 1
        self._tasks.start_soon(self._guard, task)

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task; its failure is the conversation's."""
        try:
            # A scope of its own: the task group's belongs to the consumer's task, which must still hear of the failure.
            with anyio.CancelScope() as scope:
                self._scopes.append(scope)
                await task()
        except Exception as error:  # noqa: BLE001 -- whatever a transport or recorder raises goes to the consumer
            self._fail(error)
            with anyio.CancelScope(shield=True):  # whoever waits in send() is told
                await self._pushed.aclose()
        finally:
            self._running -= 1
            self._ended.ring()

    def _emit(self, found: list[Event]) -> None:
        if self._over:
            return
        for event in found:
            self._queue.put(event)
        self._news.ring()

    def _end(self, reason: EndReason) -> None:
        """Tell the last event, and free the slot."""
        self._emit(self._session.finish(reason))
        self._over = True
        self._seat.close()
        self._release_exports()

    def _release_exports(self) -> None:
        """Let whoever waits for an export go: the conversation is over."""
        for export in self._exports:
            export.done.set()

    def _fail(self, error: Exception) -> None:
        if self._over:
            return
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        self._failure, self._failed = error, True
        slow = isinstance(error, ConsumerTooSlow)
        self._end(EndReason.CONSUMER_TOO_SLOW if slow else EndReason.FAILED)
        for scope in self._scopes:
            scope.cancel()

    def _tell_late(self, seconds: float) -> None:
        self._emit(self._session.lag(self._session.now, seconds, seconds, "user"))

    async def _speak(self) -> None:
        """Bring the model's results to the application and to the transport."""
        while not self._over:
            await self._wakeup.wait()
            self._listener.progress.ring()
            for outcome in self._seat.take():
                await self._handle(outcome)

    async def _handle(self, outcome: Outcome) -> None:
        match outcome:
            case Frame():
                await self._frame(outcome)
            case Skipped(at, behind, seconds):
                self._emit(self._session.lag(at, behind, seconds, "user"))
            case Exported(state):
                self._exported(self._exports.pop(0), state)
            case Finished():
                await self._playback.finish()
                self._end(EndReason.FINISHED)
            case Failed(error):
                raise error

    def _exported(self, export: _Export, state: SessionState | Exception) -> None:
        if isinstance(state, Exception):
            export.error = state
        else:
            sequence, seed = self._queue.next_sequence, self._options.seed or 0
            export.saved = SavedConversation(self.session_id, seed, sequence, self._session.state(), state)
        export.done.set()

    async def _frame(self, frame: Frame) -> None:
        if self._recorder is not None:
            self._recorder.record(frame)
        self._emit(self._session.hear(frame))
        self._queue.pass_frame()
        if frame.agent_pcm is not None:
            dropped = await self._playback.play(frame.agent_pcm)
            if dropped:
                seconds = dropped * self.model.spec.frame_duration
                self._emit(self._session.lag(frame.at, self._playback.FRAMES * seconds, seconds, "agent"))
        # Whoever exports may be the consumer, who takes no event until that is done.
        while self._queue.full and not self._exports:
            await self._space.wait()
