"""Recordings over HTTP, for who shows the token that the calls were made with: a list of them, and their deletion.

A server that wants no token knows nobody, and deletes nothing over HTTP: its operator has ``duplex recordings``.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import anyio.to_thread
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from duplex.errors import OutputError
from duplex.events import JsonValue
from duplex.server.recordings import Deleted, Recording, delete_all, recordings_in
from duplex.server.service import Service
from duplex.server.tickets import service_of, token_wanted

__all__ = ["recording_routes"]

log: logging.Logger = logging.getLogger(__name__)

DeleteOwn: TypeAlias = Callable[[Sequence[Recording]], None]
"""Deletes recordings of who asks."""
_GOES_ON = "this call goes on, or has just ended; hang up, and delete its recording a few seconds later"
_UNKNOWN = "there is no such recording, for this token"
_REFUSED = "not all could be deleted; GET /api/recordings lists what is left, and the server's log says why"


def recording_routes(service: Service) -> Sequence[BaseRoute]:
    """Return what a server that records has, and wants tokens."""
    if service.settings.record is None or not service.keys.tokens.wanted:
        return ()
    return Route("/api/recordings", _Recordings), Route("/api/recordings/{session_id}", _Recording)


class _Recordings(HTTPEndpoint):
    """All of one owner."""

    async def get(self, request: Request) -> Response:
        """List them, the oldest first."""
        return await _answer(request, lambda own, _: JSONResponse({"recordings": [_told(each) for each in own]}))

    async def delete(self, request: Request) -> Response:
        """Delete them, but those of calls that go on."""

        def answer(own: Sequence[Recording], delete_own: DeleteOwn) -> Response:
            going_on = [each for each in own if each.being_written(time.time())]
            delete_own([each for each in own if each not in going_on])
            return JSONResponse({"deleted": len(own) - len(going_on), "left": len(going_on)})

        return await _answer(request, answer)


class _Recording(HTTPEndpoint):
    """One call's."""

    async def delete(self, request: Request) -> Response:
        """Delete it."""

        def answer(own: Sequence[Recording], delete_own: DeleteOwn) -> Response:
            found = [each for each in own if each.session == request.path_params["session_id"]]
            if not found:
                return JSONResponse({"error": _UNKNOWN}, 404)
            if any(each.being_written(time.time()) for each in found):
                return JSONResponse({"error": _GOES_ON}, 409)
            delete_own(found)
            return Response(status_code=204)

        return await _answer(request, answer)


async def _answer(request: Request, answer: Callable[[Sequence[Recording], DeleteOwn], Response]) -> Response:
    """Answer, in a thread, from the recordings of whose token is shown."""
    service = service_of(request)
    owner, folder = service.keys.tokens.owner(request.headers.get("authorization")), service.settings.record
    if owner is None or folder is None:
        return token_wanted()

    def delete_own(recordings: Sequence[Recording]) -> None:
        reason = Deleted(why="caller", by=owner)
        for _ in delete_all((each, reason) for each in recordings):
            service.metrics.deleted_recordings.labels(reason.why).inc()

    def read(folder: Path) -> Response:
        try:
            return answer([each for each in recordings_in(folder) if each.owner == owner], delete_own)
        except OutputError as error:  # it names folders of this machine, which are no caller's business
            log.error("recordings are not deleted: %s", error)  # noqa: TRY400 -- one line says it
            return JSONResponse({"error": _REFUSED}, 500)

    return await anyio.to_thread.run_sync(read, folder, limiter=service.looking)


def _told(recording: Recording) -> dict[str, JsonValue]:
    return {"session": recording.session, "recording": recording.name, "bytes": recording.size}
