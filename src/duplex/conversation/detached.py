"""Tasks that belong to nobody's task group: whoever starts one may end before it, in whatever order.

A task group is entered and left by one task, and cancels that task when something fails in it. A conversation may be
entered by one task and left by another, or be held by an asynchronous generator, so it cannot lie in its caller's.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from anyio.lowlevel import current_token

from duplex.backends.shared.process import OwnProcess
from duplex.concurrency.notifiers import threadsafe_call_soon
from duplex.errors import UsageError

__all__ = ["OwnLoop", "spawn"]


class OwnLoop:
    """The event loop in which something was started, and its process."""

    def __init__(self) -> None:
        self._token = current_token()
        self._process = OwnProcess()
        self.schedule: Callable[[Callable[[], None]], object] = threadsafe_call_soon()
        """Schedules a callback in it from any thread; raises :class:`RuntimeError` when it has ended."""

    def check(self) -> None:
        """Check that this is it.

        :raises UsageError: in another event loop
        :raises ForkError: in a fork of the process
        """
        self._process.check("the conversation")
        if self._token != current_token():
            raise UsageError(
                "the conversation was entered in another event loop; use and leave it there (from another thread with "
                "asyncio.run_coroutine_threadsafe or anyio.from_thread.run), or make another here"
            )

    @property
    def forked(self) -> bool:
        """Whether this is a fork of its process."""
        return self._process.forked

    @property
    def ended(self) -> bool:
        """Whether it has ended; what a fork has of it is over."""
        if self.forked:
            return True
        try:
            self.schedule(_nothing)
        except RuntimeError:
            return True
        return False


def spawn(function: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
    """Start a task in the running event loop, with the caller's context variables; return it.

    Keep what is returned: asyncio itself does not. The event loop cancels the task when it ends. ``function`` must not
    raise: nobody awaits it, and trio would take its error for one of its own.
    """
    if not hasattr(current_token().native_token, "run_sync_soon"):
        return asyncio.create_task(function(), name=name)
    import trio  # noqa: PLC0415 -- an extra, and here it is running

    return trio.lowlevel.spawn_system_task(function, name=name, context=contextvars.copy_context())


def _nothing() -> None:
    pass
