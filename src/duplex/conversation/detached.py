"""Tasks that belong to nobody's task group: whoever starts one may end before it, in whatever order.

A task group is entered and left by one task, and cancels that task when something fails in it. A conversation may be
entered by one task and left by another, or be held by an asynchronous generator, so it cannot lie in its caller's.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from anyio.lowlevel import current_token

__all__ = ["spawn"]


def spawn(function: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
    """Start a task in the running event loop, with the caller's context variables; return it.

    Keep what is returned: asyncio itself does not. The event loop cancels the task when it ends. ``function`` must not
    raise: nobody awaits it, and trio would take its error for one of its own.
    """
    if not hasattr(current_token().native_token, "run_sync_soon"):
        return asyncio.create_task(function(), name=name)
    import trio  # noqa: PLC0415 -- an extra, and here it is running

    return trio.lowlevel.spawn_system_task(function, name=name, context=contextvars.copy_context())
