"""Callers who come back: the line of one who can, and the door for one who does, be it from another server."""

import logging
from collections.abc import Mapping

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from duplex.errors import AudioFileError, StateError, UsageError
from duplex.parsing import parse_integer
from duplex.server.call import Call
from duplex.server.close_reasons import CloseReason
from duplex.server.consent import Consent, records_all
from duplex.server.disclosure import disclosed
from duplex.server.entry import Entry
from duplex.server.handover.kept_line import KeptLine
from duplex.server.handover.moving import OWNED, STORE_SECONDS
from duplex.server.handover.presence import answers, watch
from duplex.server.handover.records import MovedCall
from duplex.server.handover.stores import FencedError, StoreError
from duplex.server.handover.tokens import key_of
from duplex.server.line import Line
from duplex.server.logs import fields
from duplex.server.service import Service
from duplex.server.wires.base import Opening, Wire
from duplex.server.wires.table import WIRES, WireKind
from duplex.transports import wire as messages

__all__ = ["make_line", "resume"]

log: logging.Logger = logging.getLogger(__name__)

_MOST = 2**53
"""Of what is counted: integers that every JSON parser keeps exactly."""


def make_line(
    service: Service, websocket: WebSocket, wire: Wire, kind: WireKind, opening: Opening, owner: str
) -> Line[Wire]:
    """Return the line of a caller, one that can be gone on with if the wire and the server's rules have that."""
    grace = service.settings.resume_grace
    if not (wire.resumes and grace):
        return Line(websocket, wire, kind.max_message_bytes)
    return KeptLine(
        websocket,
        wire,
        kind.max_message_bytes,
        owner=owner,
        grace=grace,
        tokens=service.resumable,
        opening=opening,
        path=kind.path,
    )


async def resume(service: Service, websocket: WebSocket, opening: Opening, owner: str) -> None:
    """Let a caller go on who shows a token, until the websocket is left; or say why that cannot be.

    A page is told nothing of a websocket that is refused, so it is accepted and closed with a code.
    """
    watch(websocket)  # here, as the process that has the call may be another one
    key, others = key_of(opening.query["resume"], owner), service.neighbours
    elsewhere = others is not None and not service.resumable.knows(key)
    if others is not None and elsewhere and await others.pass_on("line", key, owner, websocket):
        return
    told = disclosed(recorded=records_all(service.settings), synthetic=service.models.speak)
    await websocket.accept(headers=told)  # a server that records may go on with a call of one that does not
    if not await answers(websocket):
        log.debug("one who came back has left again")  # and may try once more: the token has not been used
        return
    line = service.resumable.redeem(key)
    if line is None and service.resumable.used(key):
        refusal: CloseReason | None = CloseReason.RESUME_USED
    elif line is None and service.models.state != "ready":
        # Before the claim, which is for good: another server may have a place.
        refusal = CloseReason.DRAINING if service.models.state == "draining" else CloseReason.FULL
    else:
        refusal = await _resume(service, websocket, opening, owner, line, key)
    if refusal is None:
        return
    service.metrics.resume_refused.labels(refusal.name.lower()).inc()
    log.info("call not resumed", extra=fields(reason=refusal.name.lower()))
    try:
        await websocket.send_bytes(messages.error(refusal.text))
        await websocket.close(refusal.code, refusal.text)
    except (WebSocketDisconnect, RuntimeError):
        log.debug("the caller was gone before the refusal")


async def _resume(
    service: Service, websocket: WebSocket, opening: Opening, owner: str, line: KeptLine | None, key: str
) -> CloseReason | None:
    try:
        kept = await _claim(service, key)
        moved = None if kept is None or line is not None else MovedCall.from_bytes(kept)
    except FencedError:
        if line is not None:
            line.release()
        return CloseReason.RESUME_USED
    except StateError:
        return CloseReason.RESUME_MISMATCH
    if line is not None:
        service.metrics.resumed.inc()
        log.info("call resumed", extra=fields(generation=line.generation + 1))
        return await line.take_up(websocket, _number(opening.query, "received"))
    if moved is None:
        return CloseReason.RESUME_UNKNOWN
    service.metrics.resumed.inc()
    return await _go_on(service, websocket, opening, owner, moved)


async def _claim(service: Service, key: str) -> bytes | None:
    """Own a call, so that no other server goes on with it; return what is kept of it.

    :raises FencedError: if another one has
    """
    if service.store is None:
        return None
    try:
        with anyio.fail_after(STORE_SECONDS):
            return await service.store.claim(key, OWNED, 2 * service.settings.resume_grace)
    except FencedError:
        raise
    except (StoreError, TimeoutError, OSError) as error:
        log.warning("the store of conversations does not answer: %s", error)
        return None


async def _go_on(
    service: Service, websocket: WebSocket, opening: Opening, owner: str, moved: MovedCall
) -> CloseReason | None:
    """Hold the conversation that another server has begun."""
    name = next((name for name, kind in WIRES.items() if kind.path == moved.path and kind.resumes), None)
    if name is None:
        return CloseReason.RESUME_MISMATCH
    kind, first = WIRES[name], Opening(url=opening.url, query=moved.query, headers=opening.headers)
    try:
        consent = Consent.of(service.settings, name, first.query)
        wire = kind.open(first)
        agreed = None if wire.request is None else await service.models.settle(wire.request)
    except (UsageError, AudioFileError):
        return CloseReason.RESUME_MISMATCH
    line = make_line(service, websocket, wire, kind, first, owner)
    if not isinstance(line, KeptLine) or not line.continue_from(moved, _number(opening.query, "received")):
        return CloseReason.RESUME_BEHIND
    log.info("call resumed from another server", extra=fields(generation=moved.generation + 1, away=moved.away))
    sequence = _number(opening.query, "sequence", 0)
    trace = None if service.telemetry is None else service.telemetry.call(name, opening.headers)
    entry = Entry(wire=name, trace=trace, consent=consent, saved=moved.state, sequence=sequence)
    await Call(service, line, owner, agreed, entry).run()
    return None


def _number(query: Mapping[str, str], name: str, otherwise: int = _MOST) -> int:
    """Return how many of something a caller says to have; what is no number is more than there can be."""
    try:
        return parse_integer(query.get(name, ""), 0, _MOST)
    except ValueError:
        return otherwise
