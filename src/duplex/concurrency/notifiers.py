"""Waking tasks from the same event loop (:class:`Notifier`) or from any thread (:class:`ThreadsafeNotifier`).

A server does this several times for each frame of each call, so that on asyncio a task waits for the event loop's own
future, which takes a fifth of the time of :class:`anyio.Event`; and what threads have to tell an event loop is
gathered (:class:`Inbox`), so that the loop is woken once for all the answers of a step.
"""

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Protocol

import anyio
from anyio.lowlevel import checkpoint, current_token

__all__ = [
    "Inbox",
    "Notifier",
    "ThreadsafeNotifier",
    "Waiter",
    "create_waiter",
    "current_inbox",
    "threadsafe_call_soon",
    "wake",
    "weak_callback",
]


class Waiter(Protocol):
    """What one task awaits, once; on asyncio a future."""

    def __await__(self) -> Generator[Any, Any, None]:
        """Wait until there is a result."""
        ...

    def done(self) -> bool:
        """Whether it has been woken, or has been cancelled."""
        ...

    def set_result(self, result: None, /) -> None:
        """Wake the task, in its event loop."""
        ...


class _EventWaiter:
    """A waiter on an event loop whose futures are not asyncio's."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._event.wait().__await__()

    def done(self) -> bool:
        return self._event.is_set()

    def set_result(self, _: None, /) -> None:
        self._event.set()


def create_waiter() -> Waiter:
    """Return something for the running task to wait for."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # the event loop is not asyncio's
        task = None
    return _EventWaiter() if task is None else task.get_loop().create_future()


def wake(waiter: Waiter) -> None:
    """Wake who waits, in the same event loop; twice, or after it was cancelled, is harmless."""
    if not waiter.done():
        waiter.set_result(None)


def threadsafe_call_soon() -> Callable[[Callable[[], None]], object]:
    """Return the running event loop's function that schedules a callback from any thread, without waiting for it.

    That function raises :class:`RuntimeError` when the loop has ended (trio's ``RunFinishedError`` is one). anyio has
    no such function, so this is the loop's own.
    """
    return _schedule_of(current_token().native_token)


def _schedule_of(native: Any) -> Callable[[Callable[[], None]], object]:
    # A trio token and an asyncio loop spell the same thing differently.
    return native.run_sync_soon if hasattr(native, "run_sync_soon") else native.call_soon_threadsafe


class Inbox:
    """What threads have to tell one event loop: callbacks, which it runs in one go when it gets to them.

    A callback must not raise. ``schedule`` is the event loop's :func:`threadsafe_call_soon`.
    """

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        self._schedule = schedule
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False
        """Whether the event loop has been asked to look, and has not begun to."""

    def post(self, callback: Callable[[], None]) -> None:
        """Have a callback run, from any thread; nothing happens if the loop has ended, and with it whom to wake."""
        self._waiting.append(callback)  # before the look at `_scheduled`, which `_run` resets before it looks here
        if self._scheduled:
            return
        self._scheduled = True
        try:
            self._schedule(self._run)
        except RuntimeError:
            self._waiting.clear()
            self._scheduled = False

    def _run(self) -> None:
        self._scheduled = False
        while self._waiting:
            with contextlib.suppress(IndexError):  # a thread has found the loop to have ended
                self._waiting.popleft()()


_inboxes: "weakref.WeakKeyDictionary[Any, Inbox]" = weakref.WeakKeyDictionary()


def current_inbox() -> Inbox:
    """Return the inbox of the running event loop."""
    native = current_token().native_token
    found = _inboxes.get(native)
    if found is None:
        found = _inboxes[native] = Inbox(_weak_schedule(weakref.ref(native)))
    return found


def _weak_schedule(reference: "weakref.ref[Any]") -> Callable[[Callable[[], None]], object]:
    """Return a :func:`threadsafe_call_soon` that does not keep the event loop alive."""

    def schedule(callback: Callable[[], None]) -> object:
        native = reference()
        if native is None:
            raise RuntimeError("the event loop has ended")
        return _schedule_of(native)(callback)

    return schedule


def weak_callback(notify: Callable[[], None]) -> Callable[[], None]:
    """Return a callback that keeps nothing alive: an inference thread outlives event loops that were thrown away."""
    reference = weakref.WeakMethod(notify)

    def notify_if_alive() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return notify_if_alive


class Notifier:
    """A condition without a lock, for the tasks of one event loop: only who is waiting is woken."""

    def __init__(self) -> None:
        self._waiting: list[Waiter] = []

    def notify_all(self) -> None:
        """Wake every task that is waiting now."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                wake(each)

    async def wait(self) -> None:
        """Wait for the next :meth:`notify_all`."""
        waiter = create_waiter()
        self._waiting.append(waiter)
        try:
            await waiter
        except BaseException:
            with contextlib.suppress(ValueError):  # it has been woken as well
                self._waiting.remove(waiter)
            raise


class ThreadsafeNotifier:
    """An event that any thread sets and one task waits for, which resets it; set twice before that counts once.

    Create it in the task's event loop.
    """

    def __init__(self) -> None:
        self._inbox = current_inbox()
        self._waiter: Waiter | None = None
        self._asked = False
        """Whether the loop has been asked to set the event, and the task has not seen it yet."""
        self._set = False

    def notify(self) -> None:
        """Set the event, from any thread; nothing happens if the loop has ended."""
        if not self._asked:
            self._asked = True
            self._inbox.post(self._set_event)

    async def wait(self) -> None:
        """Wait until the event is set, and reset it."""
        if self._set:
            await checkpoint()
        while not self._set:
            self._waiter = create_waiter()
            await self._waiter
        self._set = self._asked = False

    def _set_event(self) -> None:
        self._set = True
        if self._waiter is not None:
            wake(self._waiter)
