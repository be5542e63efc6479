"""Who comes to one front for a call that another has: a broken line, an observer, one who hangs up from elsewhere.

Every front listens on a socket in the folder of its server. The front that somebody has come to asks the others, and
passes the websocket on, message by message (ASGI's own), to the one that has the call. There it is as any other.

::

    asks        {"seek": "line" or "call", "key": ..., "owner": ...}
    answers     {"here": true or false}
    then        {"scope": ...}, and messages both ways, until one closes
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from duplex.server.entrance import opening_of
from duplex.server.fronts.messages import receive, send
from duplex.server.handover.resuming import resume
from duplex.server.service import Service, Sought
from duplex.server.sideband import attend, hang_up

__all__ = ["Neighbours"]

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_SCOPE = (
    *("type", "asgi", "http_version", "scheme", "server", "client", "root_path", "path", "raw_path", "query_string"),
    *("headers", "subprotocols", "path_params", "extensions"),
)
"""What crosses of a websocket's scope; the rest belongs to the process that accepted it."""
_GONE = 1011


class _Passing:
    """A websocket that is passed on, for the service that waits for it when it drains."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()

    async def move(self, url: str) -> None:
        """Do nothing: the front that has the call moves it."""

    def shut_down(self) -> None:
        """End it."""
        self.scope.cancel()


class Neighbours:
    """The other fronts of a server, in ``folder``; this one is known by its ``number``."""

    def __init__(self, folder: Path, number: int, service: Service) -> None:
        self._folder = folder
        self._path = folder / f"front-{number}"
        self._service = service

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Be there for the others."""
        self._path.unlink(missing_ok=True)  # of one that was killed
        server = await asyncio.start_unix_server(self._answer, os.fspath(self._path))
        try:
            yield
        finally:
            server.close()
            self._path.unlink(missing_ok=True)

    async def pass_on(self, sought: Sought, key: str, owner: str, websocket: WebSocket) -> bool:
        """Have the front answer a websocket that has what is sought; return whether one has."""
        found = await self._find(sought, key, owner)
        if found is None:
            return False
        passing = _Passing()
        self._service.enter(passing)
        try:
            with passing.scope:
                await _pass(websocket, *found)
        finally:
            self._service.leave(passing)
            found[1].close()
        return True

    async def hang_up(self, session_id: str, owner: str) -> bool:
        """End the call of a session, if another front has it; return whether one has."""
        found = await self._find("end", session_id, owner)
        if found is not None:
            found[1].close()
        return found is not None

    async def _find(self, sought: str, key: str, owner: str) -> Streams | None:
        """Return a connection with the front that has what is sought."""
        for path in sorted(self._folder.glob("front-*")):
            if path == self._path:
                continue
            with contextlib.suppress(OSError):  # it has ended
                reader, writer = await asyncio.open_unix_connection(os.fspath(path))
                send(writer, {"seek": sought, "key": key, "owner": owner})
                answer = await receive(reader)
                if answer is not None and answer["here"]:
                    return reader, writer
                writer.close()
        return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer another front, and whoever has come to it."""
        try:
            asked = await receive(reader)
            if asked is None:
                return
            here = await self._has(asked)
            send(writer, {"here": here})
            told = await receive(reader) if here else None
            if told is not None:
                await self._serve(asked, told["scope"], reader, writer)
        finally:
            writer.close()

    async def _has(self, asked: Mapping[str, Any]) -> bool:
        service, key, owner = self._service, asked["key"], asked["owner"]
        match asked["seek"]:
            case "line":
                return service.resumable.knows(key)
            case "call":
                return service.find(key, owner) is not None
            case _:
                return await hang_up(service, key, owner)

    async def _serve(
        self,
        asked: Mapping[str, Any],
        scope: MutableMapping[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Be the application of a websocket that another front has accepted."""

        async def receive_passed() -> MutableMapping[str, Any]:
            return await receive(reader) or {"type": "websocket.disconnect", "code": 1006}

        async def send_passed(message: MutableMapping[str, Any]) -> None:
            send(writer, message)
            with contextlib.suppress(OSError):
                await writer.drain()

        websocket = WebSocket(scope, receive_passed, send_passed)
        if asked["seek"] == "line":
            await resume(self._service, websocket, opening_of(websocket), asked["owner"])
        else:
            await attend(self._service, websocket, asked["owner"])


async def _pass(websocket: WebSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass messages on, both ways, until the front that has the call says no more."""
    send(writer, {"scope": {name: websocket.scope[name] for name in _SCOPE if name in websocket.scope}})
    ended = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_tell, websocket.receive, writer)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):  # the caller has gone
            while (message := await receive(reader)) is not None:
                ended = ended or message["type"] in {"websocket.close", "websocket.http.response.body"}
                await websocket.send(message)
            if not ended:
                await websocket.close(_GONE)
        tasks.cancel_scope.cancel()


async def _tell(take: Callable[[], Awaitable[MutableMapping[str, Any]]], writer: asyncio.StreamWriter) -> None:
    """Tell the front that has the call what its caller sends, to the goodbye."""
    while True:
        message = await take()
        send(writer, message)
        if message["type"] == "websocket.disconnect":
            return
        with contextlib.suppress(OSError):
            await writer.drain()
