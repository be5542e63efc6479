"""Beside a call: observers of it, and who ends it from elsewhere. Both show the token that its caller showed."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from duplex.errors import AudioError, CapacityError
from duplex.server.close_reasons import CloseReason
from duplex.server.entrance import check_in, deny
from duplex.server.line import Line
from duplex.server.observers import Mailbox
from duplex.server.service import ObservedCall, Service
from duplex.server.wires.base import End, Reply, WireMessage
from duplex.server.wires.live_sideband import SidebandWire
from duplex.server.wires.table import SHOW_TOKEN, bearer_or_ticket

__all__ = ["attend", "hang_up", "sideband_routes"]

log: logging.Logger = logging.getLogger(__name__)

CLOSE_TIMEOUT = 5.0
"""Seconds that an observer may take to read the rest once the call has ended."""
MAX_COMMAND_BYTES = 1 << 16
_UNKNOWN = "no such session goes on here, for this token"


def sideband_routes(service: Service) -> Sequence[BaseRoute]:
    """Return what is beside the calls of a server."""
    return (
        WebSocketRoute("/v1/live/sessions/{session_id}/attach", partial(_attach, service)),
        Route("/v1/live/sessions/{session_id}/hangup", partial(_answer_hang_up, service), methods=["POST"]),
    )


async def hang_up(service: Service, session_id: str, owner: str) -> bool:
    """End the call of a session, if it is this owner's; return whether there is one."""
    call = service.find(session_id, owner)
    if call is not None:
        await call.obey(End(CloseReason.FINISHED))
    return call is not None


async def _answer_hang_up(service: Service, request: Request) -> Response:
    """End a call, be it another process's of this server."""
    owner = service.keys.tokens.owner(request.headers.get("authorization"))
    if owner is None:
        return JSONResponse({"error": SHOW_TOKEN}, 401, {"WWW-Authenticate": "Bearer"})
    session_id, others = request.path_params["session_id"], service.neighbours
    found = await hang_up(service, session_id, owner)
    if found or (others is not None and await others.hang_up(session_id, owner)):
        return Response(status_code=204)
    return JSONResponse({"error": _UNKNOWN}, 404)


async def _attach(service: Service, websocket: WebSocket) -> None:
    """Let an observer in, or say why not."""
    known = await check_in(websocket, service.keys, service.settings.origins, bearer_or_ticket, SHOW_TOKEN)
    if known is None:
        return
    session_id, others = websocket.path_params["session_id"], service.neighbours
    here = service.find(session_id, known[1]) is not None
    if here or others is None or not await others.pass_on("call", session_id, known[1], websocket):
        await attend(service, websocket, known[1])


async def attend(service: Service, websocket: WebSocket, owner: str) -> None:
    """Let an observer who shows the token of an owner in to a call of this process, or say why not."""
    call = service.find(websocket.path_params["session_id"], owner)
    if call is None:
        await deny(websocket, 404, _UNKNOWN)
        return
    try:
        mailbox = call.observers.join(SidebandWire(call.observed))
    except CapacityError as error:
        await deny(websocket, 429, str(error))
        return
    try:
        await websocket.accept()
        await _Observer(call, Line(websocket, mailbox.wire, MAX_COMMAND_BYTES), mailbox).run()
    finally:
        call.observers.leave(mailbox)


class _Observer:
    """An observer on a line."""

    def __init__(self, call: ObservedCall, line: Line[SidebandWire], mailbox: Mailbox) -> None:
        self._call = call
        self._line = line
        self._mailbox = mailbox
        self._sent_away: tuple[CloseReason, str] | None = None
        """Why the observer is, while the call goes on."""

    async def run(self) -> None:
        """Tell what happens, and do what is wanted, until the call ends or the observer goes."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, tasks.cancel_scope)
            tasks.start_soon(self._watch, tasks.cancel_scope)
            try:
                await self._line.send(self._line.wire.opened)
                while (note := await self._mailbox.take()) is not None:
                    await self._line.send(note)
            except WebSocketDisconnect:
                return
            finally:
                tasks.cancel_scope.cancel()
        wire = self._line.wire
        if self._sent_away is not None:
            await self._say_goodbye(wire.sent_away, *self._sent_away)
        elif self._mailbox.ended is not None:
            await self._say_goodbye(wire.goodbye, *self._mailbox.ended)

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """Give the observer some time for the rest once the call has ended."""
        await self._mailbox.wait_end()
        await anyio.sleep(CLOSE_TIMEOUT)
        scope.cancel()

    async def _listen(self, scope: anyio.CancelScope) -> None:
        """Take commands; what ends the observer, and not the call, cancels the ``scope``."""
        try:
            while (message := await self._line.receive()) is not None:
                if len(message) > self._line.max_message_bytes:
                    self._sent_away = CloseReason.TOO_LARGE, CloseReason.TOO_LARGE.text
                    break
                self._line.keep_pace()
                for action in self._line.wire.receive(message):
                    if isinstance(action, Reply):
                        await self._answer(action.message)
                    else:
                        await self._call.obey(action)
        except AudioError:  # of the pace, which is that of a caller's messages
            self._sent_away = CloseReason.BAD_REQUEST, "commands come too fast; send fewer than 250 a second"
        except WebSocketDisconnect:
            pass
        scope.cancel()

    async def _answer(self, message: WireMessage) -> None:
        await self._line.send(lambda: (message,))

    async def _say_goodbye(
        self, make: Callable[[CloseReason, str], Iterable[WireMessage]], reason: CloseReason, text: str
    ) -> None:
        with anyio.move_on_after(CLOSE_TIMEOUT):
            try:
                await self._line.send(make, reason, text)
                await self._line.close(reason.code, reason.text)
            except (WebSocketDisconnect, RuntimeError):
                log.debug("an observer was gone before the goodbye")
