"""The base of all conversations, local and remote: audio pushed in, events out, and the tasks that run it.

A task's failure ends the conversation: its consumer gets ``SessionEnded`` and then the one original error.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from os import PathLike
from types import TracebackType
from typing import Self, cast

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from duplex.audio.pcm import AudioLike
from duplex.conversation.playback import Playback
from duplex.conversation.session import EventQueue
from duplex.engine.notifiers import Notifier
from duplex.errors import ClosedError, ConsumerTooSlow, UsageError
from duplex.events import EndReason, Event
from duplex.transport import Transport
from duplex.transports.memory import MemoryTransport

__all__ = ["Dialogue", "check_transport"]

Task = Callable[[], Awaitable[None]]


class Dialogue(ABC):
    """A conversation, wherever its model runs: an asynchronous context manager and iterator of events.

    It is a :class:`duplex.Conversation` on a model of this process, or a :class:`duplex.RemoteConversation` on that of
    a server; code that takes a ``Dialogue`` works with both. With a transport the user's audio comes from there and the
    agent's goes there. Without one, push audio with :meth:`send` and end it with :meth:`finish` from another task, or
    iterate over :meth:`run`. There is one consumer.

    ``SessionStarted`` is a session's first event. A normal end, a refusal by a server or a failure gives
    ``SessionEnded`` as the last event, exactly once; a refusal or failure then raises the original error from the
    iterator. A call that was refused has no session and no ``SessionStarted``. What is already known on entering
    is raised there, before any event. Leaving the block, ``break`` and cancellation end the session at once, without
    a further event.
    """

    def __init__(self, transport: Transport | None, sample_rate: int, queue: EventQueue) -> None:
        self._pushed = MemoryTransport(sample_rate=sample_rate, keep=False)
        self._own_transport = transport is None
        self._transport: Transport = self._pushed if transport is None else transport
        self._queue = queue
        self._scopes: list[anyio.CancelScope] = []
        self._failure: Exception | None = None
        self._entered = self._over = self._failed = False

    @abstractmethod
    async def _open(self) -> Sequence[Task]:
        """Acquire what the conversation needs, when it is entered; return the tasks that run it."""

    @abstractmethod
    def _last_events(self, reason: EndReason) -> list[Event]:
        """Return the events that end the session."""

    @abstractmethod
    def _release(self) -> None:
        """Release what the model or the server holds for it; called once or twice, at its end."""

    async def __aenter__(self) -> Self:
        if self._entered:
            raise UsageError("this conversation has been used; make another")
        self._entered = True
        self._event_added, self._event_taken, self._task_ended = Notifier(), Notifier(), Notifier()
        self._playback = Playback(self._transport)
        try:
            tasks = await self._open()
        except BaseException:
            with anyio.CancelScope(shield=True):
                self._playback.close()
                await self._transport.aclose()
            raise
        self._running = 0
        self._tasks: TaskGroup = await anyio.create_task_group().__aenter__()
        for task in (*tasks, self._playback.run):
            self._start(task)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over = True
        self._queue.clear()
        self._release()
        self._tasks.cancel_scope.cancel()
        # The tasks end before the block does, also when the block is being cancelled. An error of the block is not
        # passed to the task group, which would wrap it.
        try:
            with anyio.CancelScope(shield=True):
                while self._running:
                    await self._task_ended.wait()
                self._playback.close()
                await self._transport.aclose()
        finally:
            await self._tasks.__aexit__(None, None, None)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if not self._entered:
            raise UsageError("enter the conversation first: async with ... as conversation")
        await checkpoint()
        while True:
            event = self._queue.take()
            if event is not None:
                self._event_taken.notify_all()
                return event
            if self._over:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                raise StopAsyncIteration
            await self._event_added.wait()

    async def send(self, pcm: AudioLike) -> None:
        """Push the user's next audio, of any length.

        It is a float32, float64 or int16 array of shape ``[samples]``, or 16-bit little-endian samples as ``bytes``,
        ``bytearray`` or ``memoryview``, as telephone libraries give them. Floats are nominally between -1 and 1.

        Waits while more than a few seconds are pending, so send from another task than the one that iterates. When the
        conversation has failed, audio is discarded: the iterator raises the error, and no other task a second one.

        :raises UsageError: if the conversation has a transport of its own
        :raises AudioError: if the array cannot be used, or bytes end within a sample
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

    def run(self, pcm: AudioLike) -> AsyncIterator[Event]:
        """Push a whole recording and iterate over the events: ``async for event in conversation.run(pcm)``.

        :raises UsageError: if the conversation has a transport of its own
        """
        pushed = self._pushing()

        async def push() -> None:
            await pushed.feed(pcm)
            await pushed.end()

        if not self._over:  # an earlier failure is raised by the iterator
            self._start(push)
        return self

    def _pushing(self) -> MemoryTransport:
        if not self._own_transport:
            raise UsageError("this conversation hears its transport; leave the transport out to push audio")
        if not self._entered:
            raise UsageError("enter the conversation first: async with ... as conversation")
        return self._pushed

    def _start(self, task: Task) -> None:
        self._running += 1
        self._tasks.start_soon(self._guard, task)

    async def _guard(self, task: Task) -> None:
        """Run a task; its failure fails the conversation."""
        try:
            # A scope of its own: the task group's would cancel the consumer's task, which must still get the failure.
            with anyio.CancelScope() as scope:
                self._scopes.append(scope)
                await task()
        except Exception as error:  # noqa: BLE001 -- whatever a transport or recorder raises goes to the consumer
            self._fail(error)
            with anyio.CancelScope(shield=True):  # wakes whoever waits in send()
                await self._pushed.aclose()
        finally:
            self._running -= 1
            self._task_ended.notify_all()

    def _emit(self, events: Sequence[Event]) -> None:
        if self._over:
            return
        for event in events:
            self._queue.put(event)
        self._event_added.notify_all()

    def _end(self, reason: EndReason) -> None:
        """Emit the last event, and release what is held for the conversation."""
        self._emit(self._last_events(reason))
        self._over = True
        self._release()

    def _fail(self, error: Exception) -> None:
        if self._over:
            return
        first = _first(error)
        self._failure, self._failed = first, True
        self._end(self._reason(first))
        for scope in self._scopes:
            scope.cancel()

    def _reason(self, error: Exception) -> EndReason:
        """Return the reason that ``SessionEnded`` has for an error."""
        return EndReason.CONSUMER_TOO_SLOW if isinstance(error, ConsumerTooSlow) else EndReason.FAILED


def check_transport(transport: object) -> None:
    """Check that a conversation was given a transport, or none.

    :raises UsageError: if not
    """
    if isinstance(transport, str | PathLike):
        path = str(cast("str | PathLike[str]", transport))
        raise UsageError(f"the transport is {path!r}; write duplex.FileTransport({path!r}) to hear a file")
    if transport is not None and not callable(getattr(transport, "receive", None)):
        raise UsageError(
            f"the transport is {type(transport).__name__}, not a duplex.Transport; to push audio leave it out, "
            "and iterate over conversation.run(pcm)"
        )


def _first(error: Exception) -> Exception:
    """Return the first error in nested exception groups."""
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return error
