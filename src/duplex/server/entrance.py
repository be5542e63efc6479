"""Who may open a websocket: pages of known origins, and who shows what is wanted."""

from collections.abc import Callable, Collection

import anyio
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from duplex.parsing import shown
from duplex.server.auth import Keys
from duplex.server.origins import origin_allowed
from duplex.server.wires.base import Opening

__all__ = ["check_in", "deny", "opening_of"]


async def check_in(
    websocket: WebSocket,
    keys: Keys,
    origins: Collection[str],
    owner_of: Callable[[Keys, Opening, float], str | None],
    credentials: str,
) -> tuple[Opening, str] | None:
    """Return the request of a websocket and whose it is; one who may not come in is told why, and gets ``None``.

    Pages may come from this host and from ``origins``. ``owner_of`` tells which of the ``keys`` is shown;
    ``credentials`` says what is wanted.
    """
    origin, host = websocket.headers.get("origin"), websocket.headers.get("host")
    if not origin_allowed(origin, host, origins):
        text = f"pages of {origin} may not call {host}; allow it with --origin, or let a proxy pass Host on"
        await deny(websocket, 403, text)
        return None
    twice = _contradiction(websocket)
    if twice is not None:
        await deny(websocket, 400, f"the address says two things about {shown(twice)}; give it once")
        return None
    opening = opening_of(websocket)
    owner = owner_of(keys, opening, anyio.current_time())
    if owner is None:
        await deny(websocket, 401, credentials)
        return None
    return opening, owner


def _contradiction(websocket: WebSocket) -> str | None:
    """Return a name that the query has with different values: which of them counts, nobody could know."""
    items = websocket.query_params.multi_items()
    return next((name for name, value in items if value != websocket.query_params[name]), None)


def opening_of(websocket: WebSocket) -> Opening:
    """Return what the request of a websocket says."""
    return Opening(
        url=str(websocket.url),
        query=websocket.query_params,
        headers=websocket.headers,
        subprotocols=tuple(websocket.scope.get("subprotocols") or ()),
    )


async def deny(websocket: WebSocket, status: int, text: str) -> None:
    """Refuse a websocket before it is open."""
    await websocket.send_denial_response(JSONResponse({"error": text}, status))
