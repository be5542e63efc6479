"""Short-lived secrets over HTTP, for who shows a token: in our words, and in those of OpenAI's clients."""

import time

import anyio
from starlette.endpoints import HTTPEndpoint
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from duplex.server.auth import Keys, Tickets
from duplex.server.service import Service
from duplex.server.wires.json_messages import new_id
from duplex.server.wires.realtime_session import RealtimeSession

__all__ = ["ClientSecret", "Ticket", "give_client_secret", "give_ticket", "service_of", "token_wanted"]

_NO_SESSION = "a client secret holds no session; ask for one by session.update"


class Ticket(HTTPEndpoint):
    """Gives a ticket to who shows a token."""

    async def post(self, request: Request) -> Response:
        """Answer."""
        return give_ticket(request, service_of(request).keys)


class ClientSecret(HTTPEndpoint):
    """Gives a ticket as OpenAI's clients know it: once, for a minute. What is asked for beside it is not read."""

    async def post(self, request: Request) -> Response:
        """Answer."""
        service = service_of(request)
        return give_client_secret(request, service.keys, service.models.default.name)


def give_ticket(request: Request, keys: Keys) -> Response:
    """Return the answer to who wants a ticket, and should show a token."""
    owner = keys.tokens.owner(request.headers.get("authorization"))
    if owner is None:
        return token_wanted()
    ticket = keys.tickets.issue(owner, anyio.current_time())
    return _secret({"ticket": ticket, "seconds": Tickets.SECONDS})


def give_client_secret(request: Request, keys: Keys, model: str) -> Response:
    """Return the answer to who wants a client secret for calls with a model, and should show a token."""
    owner = keys.tokens.owner(request.headers.get("authorization"))
    if owner is None:
        return token_wanted()
    return _secret(
        {
            "value": keys.issue_secret(owner, anyio.current_time()),
            "expires_at": int(time.time() + Tickets.SECONDS),
            "session": {**RealtimeSession(new_id("sess"), model).resource(), "left_out": [_NO_SESSION]},
        }
    )


def service_of(connection: HTTPConnection) -> Service:
    """Return what all calls of a server share."""
    service: Service = connection.app.state.service
    return service


def token_wanted() -> Response:
    """Refuse who shows no token."""
    error = {"error": "show a token (Authorization: Bearer ...)"}
    return JSONResponse(error, 401, {"WWW-Authenticate": "Bearer"})


def _secret(told: dict[str, object]) -> Response:
    return JSONResponse(told, headers={"Cache-Control": "no-store"})
