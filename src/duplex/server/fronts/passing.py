"""A websocket that one front has accepted and another one answers: ASGI's own messages, both ways.

1. Who sends a message goes on when the other front has dealt with it, as if the websocket were its own. So there is
   never more than a message between the two, each way: a call knows when its caller does not keep up, and drops what
   would be heard late.
2. A front has dealt with a message when it takes the next one.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from duplex.concurrency.notifiers import Notifier
from duplex.server.fronts.messages import receive, send

__all__ = ["Passage", "pass_messages"]

Message: TypeAlias = MutableMapping[str, Any]
_DEALT_WITH = "dealt_with"
_GONE = 1011


class Passage:
    """One front's end of a websocket that is passed on; :meth:`run` has to run meanwhile."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._come: deque[Message] = deque()
        self._owing = False
        """Whether the other front has not been told yet that what was taken last is dealt with."""
        self._sent = 0
        self._dealt_with = 0
        """As many of those that were sent."""
        self._over = False
        self._changed = Notifier()

    async def run(self) -> None:
        """Take what comes until the other front is gone."""
        while (message := await receive(self._reader)) is not None:
            if message["type"] == _DEALT_WITH:
                self._dealt_with += 1
            else:
                self._come.append(message)
            self._changed.notify_all()
        self._over = True
        self._changed.notify_all()

    async def send(self, message: Message) -> None:
        """Send a message, and wait until the other front has dealt with it, or is gone."""
        send(self._writer, message)
        self._sent += 1
        number = self._sent
        while self._dealt_with < number and not self._over:
            await self._changed.wait()

    async def take(self) -> Message | None:
        """Return the next message, ``None`` if there are no more; the one before is dealt with."""
        if self._owing:
            self._owing = False
            send(self._writer, {"type": _DEALT_WITH})
        while not self._come:
            if self._over:
                return None
            await self._changed.wait()
        self._owing = True
        return self._come.popleft()


async def pass_messages(websocket: WebSocket, passage: Passage) -> None:
    """Pass messages on, both ways, until the front that has the call says no more."""
    ended = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(passage.run)
        tasks.start_soon(_tell, websocket.receive, passage)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):  # the caller has gone
            while (message := await passage.take()) is not None:
                ended = ended or message["type"] in {"websocket.close", "websocket.http.response.body"}
                await websocket.send(message)
            if not ended:
                await websocket.close(_GONE)
        tasks.cancel_scope.cancel()


async def _tell(take: Callable[[], Awaitable[Message]], passage: Passage) -> None:
    """Tell the front that has the call what its caller sends, to the goodbye."""
    while True:
        message = await take()
        await passage.send(message)
        if message["type"] == "websocket.disconnect":
            return
