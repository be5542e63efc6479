"""Who comes to one front for a call that another has: a broken line, an observer, one who hangs up from elsewhere.

Every front listens on a socket in the folder of its server. The front that somebody has come to asks all others at
once, and passes the websocket on to the one that has the call (:mod:`.passing`). There it is as any other.

::

    asks        {"seek": "line", "call" or "end", "key": ..., "owner": ...}
    answers     {"here": true or false}
    then        {"scope": ...}, and messages both ways, until one closes; to "end" a call nothing more is said
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
from starlette.websockets import WebSocket

from duplex.server.entrance import opening_of
from duplex.server.fronts.messages import receive, send
from duplex.server.fronts.passing import Passage, pass_messages
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
ANSWER_SECONDS = 3.0
"""That another front may take to say something: for one that hangs nobody waits until it is ended."""


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
        async with self._found(sought, key, owner) as found:
            if found is None:
                return False
            reader, writer = found
            send(writer, {"scope": {name: websocket.scope[name] for name in _SCOPE if name in websocket.scope}})
            passing = _Passing()
            try:
                self._service.enter(passing)  # which starts threads, if there can be any
                with passing.scope:
                    await pass_messages(websocket, Passage(reader, writer))
            finally:
                self._service.leave(passing)
        return True

    async def hang_up(self, session_id: str, owner: str) -> bool:
        """End the call of a session, if another front has it; return whether one has."""
        async with self._found("end", session_id, owner) as found:
            return found is not None

    @asynccontextmanager
    async def _found(self, sought: str, key: str, owner: str) -> AsyncGenerator[Streams | None]:
        """Give a connection with the front that has what is sought, until the block ends."""
        found: list[Streams] = []
        try:
            async with anyio.create_task_group() as tasks:

                async def ask(path: Path) -> None:
                    streams = await _asked(path, {"seek": sought, "key": key, "owner": owner})
                    if streams is not None:
                        found.append(streams)
                        tasks.cancel_scope.cancel()

                for path in self._folder.glob("front-*"):
                    if path != self._path:
                        tasks.start_soon(ask, path)
            yield found[0] if found else None
        finally:
            for _, writer in found:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer another front, and whoever has come to it."""
        try:
            asked = await _received(reader)
            if asked is None:
                return
            here = self._has(asked)
            send(writer, {"here": here})
            if here and asked["seek"] == "end":  # which may take longer than anybody waits for an answer
                await hang_up(self._service, asked["key"], asked["owner"])
                return
            told = await _received(reader) if here else None
            if told is not None:
                await self._serve(asked, told["scope"], reader, writer)
        finally:
            writer.close()

    def _has(self, asked: Mapping[str, Any]) -> bool:
        if asked["seek"] == "line":
            return self._service.resumable.knows(asked["key"])
        return self._service.find(asked["key"], asked["owner"]) is not None

    async def _serve(
        self,
        asked: Mapping[str, Any],
        scope: MutableMapping[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Be the application of a websocket that another front has accepted."""
        passage = Passage(reader, writer)

        async def receive_passed() -> MutableMapping[str, Any]:
            return await passage.take() or {"type": "websocket.disconnect", "code": 1006}

        websocket = WebSocket(scope, receive_passed, passage.send)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(passage.run)
            if asked["seek"] == "line":
                await resume(self._service, websocket, opening_of(websocket), asked["owner"])
            else:
                await attend(self._service, websocket, asked["owner"])
            tasks.cancel_scope.cancel()


async def _asked(path: Path, question: Mapping[str, Any]) -> Streams | None:
    """Return a connection with the front at a path, if it has what is sought."""
    here = False
    with anyio.move_on_after(ANSWER_SECONDS), contextlib.suppress(OSError):  # it has ended
        reader, writer = await asyncio.open_unix_connection(os.fspath(path))
        try:
            send(writer, question)
            answer = await receive(reader)
            here = answer is not None and bool(answer["here"])
            if here:
                return reader, writer
        finally:
            if not here:
                writer.close()
    return None


async def _received(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Return what another front says next, ``None`` if that does not come."""
    with anyio.move_on_after(ANSWER_SECONDS):
        return await receive(reader)
    return None
