"""What runs a conversation: its tasks, the events that wait, and the errors that end it.

1. The tasks are children of one that belongs to nobody (:mod:`duplex.conversation.detached`), so a conversation may be
   left by another task than the one that entered it.
2. A task's failure ends the conversation: its consumer gets ``SessionEnded`` and then the one original error.
3. Nothing here refers to the :class:`duplex.Dialogue` that its users hold: one that was dropped ends its runner.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

import anyio
from anyio.lowlevel import checkpoint

from duplex.concurrency.groups import first_error
from duplex.concurrency.notifiers import Notifier
from duplex.conversation.closing import Closing
from duplex.conversation.detached import OwnLoop, spawn
from duplex.conversation.playback import Playback
from duplex.conversation.session import EventQueue
from duplex.errors import ClosedError, ConsumerTooSlow, UsageError
from duplex.events import EndReason, Event
from duplex.transport import Transport
from duplex.transports.memory import MemoryTransport

__all__ = ["Runner", "Task"]

Task = Callable[[], Awaitable[None]]
logger: logging.Logger = logging.getLogger(__name__)
CLOSE_SECONDS = 10.0
"""Seconds that a transport may take to close, and tasks to end, before nobody waits for them any more."""

_abandoned: set["Runner"] = set()
"""Runners that nobody else holds, until they have ended: an event loop alone would not keep their tasks alive."""


class Runner(ABC):
    """Runs one conversation, in the event loop in which it was started."""

    def __init__(self, transport: Transport | None, sample_rate: int, queue: EventQueue) -> None:
        self.pushed: MemoryTransport = MemoryTransport(sample_rate=sample_rate, keep=False)
        self.transport: Transport = self.pushed if transport is None else transport
        self.queue = queue
        self.entered: bool = False
        self.over: bool = False
        self.failed: bool = False
        self.left: bool = False
        """Whether whoever uses the conversation has left it."""
        self._opened = self._released = self._closing = False
        self._scopes: list[anyio.CancelScope] = []
        self._own_tasks: set[int] = set()
        self._failure: BaseException | None = None
        self._cleanup = Closing()

    @abstractmethod
    async def open(self) -> Sequence[Task]:
        """Acquire what the conversation needs, when it is entered; return the tasks that run it."""

    @abstractmethod
    def last_events(self, reason: EndReason) -> list[Event]:
        """Return the events that end the session."""

    @abstractmethod
    def release(self) -> None:
        """Release what the model or the server holds for it; called once, at its end."""

    @abstractmethod
    async def hang_up(self) -> None:
        """Close what was opened for it and is closed by waiting; called once, at its end, before the transport is."""

    @abstractmethod
    def release_abandoned(self) -> None:
        """Release it from any thread, in the middle of whatever that thread does, without waiting for a lock."""

    @abstractmethod
    async def interrupt(self) -> None:
        """Let nothing more be heard of what the agent is saying."""

    @abstractmethod
    async def mute_agent(self, muted: bool) -> None:
        """Let nothing be heard of the agent, or hear it again."""

    @abstractmethod
    async def press_key(self, key: str) -> None:
        """Note that the user pressed a key."""

    async def enter(self) -> None:
        """Acquire what the conversation needs, and start its tasks.

        :raises UsageError: if it has been entered before
        :raises ClosedError: if another task leaves it meanwhile
        """
        if self.entered:
            raise UsageError("this conversation has been used; make another")
        self.entered = True
        self._loop = OwnLoop()
        self.event_added: Notifier = Notifier()
        self.event_taken: Notifier = Notifier()
        self._stopped, self._started, self._ended = anyio.Event(), anyio.Event(), anyio.Event()
        self.playback: Playback = Playback(self.transport)
        try:
            with anyio.CancelScope() as self._opening:
                self._tasks = await self.open()
                self._opened = True
                self._supervisor = spawn(self._supervise, "duplex conversation")
                with anyio.CancelScope(shield=True):
                    await self._started.wait()
            self._check_not_left()
        except BaseException:
            self.stop()
            if not self._started.is_set():
                await self._close()
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._ended.wait()
            raise

    async def leave(self) -> None:
        """End the conversation at once, from any task of its event loop, and wait until nothing of it is left.

        :raises UsageError: in another event loop while its own goes on, or in one of the conversation's own tasks
        """
        if not self.entered:
            return
        if self._loop.ended:  # and this is another: what the first one did not end is given up
            self.left = True
            self.abandon()
            return
        self._loop.check()
        if anyio.get_current_task().id in self._own_tasks:
            raise UsageError(
                "a conversation's own transport cannot leave it; raise anyio.EndOfStream to end its audio, or an error"
            )
        self.stop()
        if not self._started.is_set():
            self._opening.cancel()
        with anyio.move_on_after(2 * CLOSE_SECONDS, shield=True) as patience:
            await self._ended.wait()
        if patience.cancelled_caught:
            logger.warning("a task of a conversation does not end; does its transport swallow cancellation?")
        error = self._cleanup.take_error()
        failure, self._failure = self._failure, None
        if failure is not None and not isinstance(failure, Exception):  # nobody has seen an interrupt yet
            raise failure
        if error is not None:
            raise error

    def abandon(self) -> None:
        """End the conversation from any thread, in a finalizer, and also when its event loop has ended."""
        self.over = True
        if self._loop.forked:  # it goes on in the other process
            return
        if self._opened:
            self._cleanup.call(self.release_abandoned)
        try:
            self._loop.schedule(self._stop_abandoned)
        except RuntimeError:  # the loop has ended, and with it the tasks
            return

    @property
    def running(self) -> bool:
        """Whether it has been entered, and something of it is left in this process."""
        return self.entered and not self._ended.is_set() and not self._loop.forked

    def check(self) -> None:
        """Check that the conversation has been entered, and in this event loop.

        :raises UsageError: if not
        :raises ForkError: in a fork of the process
        """
        if not self.entered:
            raise UsageError("enter the conversation first: async with ... as conversation")
        self._loop.check()

    async def next_event(self) -> Event:
        """Wait for the next event.

        :raises StopAsyncIteration: after the last one
        """
        self.check()
        await checkpoint()
        while True:
            event = self.queue.take()
            if event is not None:
                self.event_taken.notify_all()
                return event
            if self.over:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                raise StopAsyncIteration
            await self.event_added.wait()

    def start(self, task: Task) -> None:
        """Run another task until the conversation ends, unless it has ended: the consumer is told of that."""
        if not self.over:
            self._group.start_soon(self._guard, task)

    def stop(self) -> None:
        """Begin to end the conversation, without a further event."""
        self.left = self.over = True
        self.queue.clear()
        self.event_added.notify_all()
        self.event_taken.notify_all()  # for who waits until all are
        self._release()
        self._stopped.set()

    def emit(self, events: Sequence[Event]) -> None:
        """Queue events for the consumer."""
        if self.over:
            return
        for event in events:
            self.queue.put(event)
        self.event_added.notify_all()

    def end(self, reason: EndReason) -> None:
        """Emit the last event, and release what is held for the conversation."""
        self.emit(self.last_events(reason))
        self.over = True
        self._release()

    def fail(self, error: BaseException) -> None:
        """End the conversation with an error, which the consumer gets after the last event."""
        if self.over:
            return
        first = first_error(error)
        self._failure, self.failed = first, True
        self.end(self.reason(first))
        for scope in self._scopes:
            scope.cancel()

    def reason(self, error: BaseException) -> EndReason:
        """Return the reason that ``SessionEnded`` has for an error."""
        return EndReason.CONSUMER_TOO_SLOW if isinstance(error, ConsumerTooSlow) else EndReason.FAILED

    async def _supervise(self) -> None:
        """Run the tasks until the conversation is left, or its event loop ends; then close the transport."""
        self._started.set()
        try:
            async with anyio.create_task_group() as self._group:
                for task in (*self._tasks, self.playback.run):
                    self.start(task)
                await self._stopped.wait()
                self._group.cancel_scope.cancel()
        except GeneratorExit:  # the event loop was thrown away
            self._cleanup.call(self.release_abandoned)
            raise
        except anyio.get_cancelled_exc_class():
            pass  # swallowed: what the event loop cancels when it ends is ended here, and nobody awaits this task
        except BaseException as error:  # noqa: BLE001 -- an interrupt, which the consumer gets
            self.fail(error)
        await self._close()

    async def _close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.fail(ClosedError("the event loop has ended the conversation; leave a conversation before that"))
        self._release()
        self.playback.close()
        try:
            if self._opened:
                await self._cleanup.wait_for(self.hang_up, CLOSE_SECONDS)
            await self._cleanup.wait_for(self.transport.aclose, CLOSE_SECONDS)
        finally:
            self._ended.set()
            _abandoned.discard(self)

    def _check_not_left(self) -> None:
        if self.left:
            raise ClosedError("the conversation was left while it was being entered; make another")

    def _release(self) -> None:
        if self._opened and not self._released:
            self._released = True
            self._cleanup.call(self.release)

    async def _guard(self, task: Task) -> None:
        """Run a task; its failure fails the conversation."""
        own = anyio.get_current_task().id
        self._own_tasks.add(own)
        try:
            # A scope of its own, so that one's failure can cancel the others and the conversation still be left.
            with anyio.CancelScope() as scope:
                self._scopes.append(scope)
                await task()
        except anyio.get_cancelled_exc_class():
            self._stopped.set()  # also if somebody has cancelled this task alone: without it, all would wait for ever
            raise
        except Exception as error:  # noqa: BLE001 -- whatever a transport or recorder raises goes to the consumer
            self.fail(error)
            with anyio.CancelScope(shield=True):  # wakes whoever waits in send()
                await self.pushed.aclose()
        finally:
            self._own_tasks.discard(own)

    def _stop_abandoned(self) -> None:
        if self.running:
            _abandoned.add(self)
            self.stop()
