"""Callers who come back: the line of one who can, and the door for one who does."""

import logging
from collections.abc import Mapping

from starlette.websockets import WebSocket, WebSocketDisconnect

from duplex.parsing import parse_integer
from duplex.server.close_reasons import CloseReason
from duplex.server.handover.kept_line import KeptLine
from duplex.server.handover.tokens import key_of
from duplex.server.line import Line
from duplex.server.logs import fields
from duplex.server.service import Service
from duplex.server.wires.base import Wire
from duplex.transports import wire as messages

__all__ = ["make_line", "resume"]

log: logging.Logger = logging.getLogger(__name__)

_MOST_MESSAGES = 2**53


def make_line(service: Service, websocket: WebSocket, wire: Wire, max_message_bytes: int, owner: str) -> Line[Wire]:
    """Return the line of a caller, one that can be gone on with if the wire and the server's rules have that."""
    grace = service.settings.resume_grace
    if not (wire.resumes and grace):
        return Line(websocket, wire, max_message_bytes)
    return KeptLine(websocket, wire, max_message_bytes, owner=owner, grace=grace, tokens=service.resumable)


async def resume(service: Service, websocket: WebSocket, query: Mapping[str, str], owner: str) -> None:
    """Let a caller go on who shows a token, until the websocket is left; or say why that cannot be.

    A page is told nothing of a websocket that is refused, so it is accepted and closed with a code.
    """
    await websocket.accept()
    key = key_of(query["resume"], owner)
    line = service.resumable.redeem(key)
    if line is None:
        used = service.resumable.used(key)
        await _refuse(service, websocket, CloseReason.RESUME_USED if used else CloseReason.RESUME_UNKNOWN)
        return
    service.metrics.resumed.inc()
    log.info("call resumed", extra=fields(generation=line.generation + 1))
    refusal = await line.take_up(websocket, _received(query))
    if refusal is not None:
        await _refuse(service, websocket, refusal)


async def _refuse(service: Service, websocket: WebSocket, reason: CloseReason) -> None:
    service.metrics.resume_refused.labels(reason.name.lower()).inc()
    log.info("call not resumed", extra=fields(reason=reason.name.lower()))
    try:
        await websocket.send_bytes(messages.error(reason.text))
        await websocket.close(reason.code, reason.text)
    except (WebSocketDisconnect, RuntimeError):
        log.debug("the caller was gone before the refusal")


def _received(query: Mapping[str, str]) -> int:
    """Return how many messages a caller says to have; what is no number is more than there can be."""
    try:
        return parse_integer(query.get("received", ""), 0, _MOST_MESSAGES)
    except ValueError:
        return _MOST_MESSAGES
