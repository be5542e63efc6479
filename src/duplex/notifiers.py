"""Waking tasks from the same event loop (:class:`Notifier`) or from any thread (:class:`ThreadsafeNotifier`)."""

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import anyio
from anyio.lowlevel import current_token

__all__ = ["Notifier", "ThreadsafeNotifier", "threadsafe_call_soon", "weak_callback"]


def threadsafe_call_soon() -> Callable[[Callable[[], None]], object]:
    """Return the running event loop's function that schedules a callback from any thread, without waiting for it.

    That function raises :class:`RuntimeError` when the loop has ended (trio's ``RunFinishedError`` is one). anyio has
    no such function, so this is the loop's own.
    """
    native: Any = current_token().native_token
    # A trio token and an asyncio loop spell the same thing differently.
    return native.run_sync_soon if hasattr(native, "run_sync_soon") else native.call_soon_threadsafe


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
        self._event: anyio.Event | None = None

    def notify_all(self) -> None:
        """Wake every task that is waiting now."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Wait for the next :meth:`notify_all`."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()


class ThreadsafeNotifier:
    """An event that any thread sets and one task waits for, which resets it; set twice before that counts once.

    Create it in the task's event loop.
    """

    def __init__(self) -> None:
        self._schedule = threadsafe_call_soon()
        self._event = anyio.Event()
        self._set = False
        """Whether the loop has been asked to set the event, and the task has not seen it yet."""

    def notify(self) -> None:
        """Set the event, from any thread; nothing happens if the loop has ended."""
        if not self._set:
            self._set = True
            # A RuntimeError: the loop has ended, and with it the task to wake.
            with contextlib.suppress(RuntimeError):
                self._schedule(self._set_event)

    async def wait(self) -> None:
        """Wait until the event is set, and reset it."""
        await self._event.wait()
        self._event, self._set = anyio.Event(), False

    def _set_event(self) -> None:
        self._event.set()
