"""Waking tasks: from any thread (:class:`Wakeup`), and from the same event loop (:class:`Bell`)."""

import contextlib
from collections.abc import Callable
from typing import Any

import anyio
from anyio.lowlevel import current_token

__all__ = ["Bell", "Wakeup", "into_this_loop"]


def into_this_loop() -> Callable[[Callable[[], None]], object]:
    """Return what has a function called in the event loop that runs now, from any thread, and returns at once.

    It raises :class:`RuntimeError` when the loop is over (trio's ``RunFinishedError`` is one). anyio has no such call,
    so this asks the loop below.
    """
    native: Any = current_token().native_token
    # A trio token and an asyncio loop spell the same thing differently.
    return native.run_sync_soon if hasattr(native, "run_sync_soon") else native.call_soon_threadsafe


class Bell:
    """Rung by one task of an event loop, heard by all that wait at that moment."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        """Wake whoever waits."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Wait for the next ring."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()


class Wakeup:
    """A flag that one task waits for and any thread may raise; raised twice before it is seen counts once.

    Make it in the task's event loop.
    """

    def __init__(self) -> None:
        self._schedule = into_this_loop()
        self._event = anyio.Event()
        self._raised = False
        """Whether the loop has been asked to set the event, and the task has not seen it yet."""

    def notify(self) -> None:
        """Raise the flag, from any thread; a loop that has ended does not mind."""
        if not self._raised:
            self._raised = True
            # A RuntimeError: the loop is over, and with it whoever would have been woken.
            with contextlib.suppress(RuntimeError):
                self._schedule(self._raise)

    async def wait(self) -> None:
        """Wait for the flag, and lower it."""
        await self._event.wait()
        self._event, self._raised = anyio.Event(), False

    def _raise(self) -> None:
        self._event.set()
