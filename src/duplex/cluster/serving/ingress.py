"""The door of a cluster: the page, places with tickets, and what all replicas are like. No sound passes it.

1. ``POST /api/place`` answers with addresses of up to three replicas, best first, each with a ticket for it.
2. A websocket is answered the same, as a redirection (307) to the first of them, which clients follow that follow
   redirections. ``duplex.connect`` reads the others as well. So is a text that is to be said.
3. ``?at=`` says at which replica the caller's call is, for who comes back to one.
4. Who may call is decided here as at a replica, by the same tokens, and there again.
5. What else a client meets at a single server: :mod:`duplex.cluster.serving.desk`.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib.resources import files
from urllib.parse import urlencode, urlsplit

import anyio
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from duplex.cluster.serving.desk import Desk
from duplex.cluster.serving.gathering import fetch_metrics, merge_metrics, trust_of
from duplex.cluster.serving.placing import Placement, Report
from duplex.cluster.serving.ticket import sign_ticket
from duplex.events import JsonValue
from duplex.server.asgi import websocket_wanted
from duplex.server.auth import Keys, Tickets, Tokens
from duplex.server.entrance import check_in
from duplex.server.listening import Listening
from duplex.server.middleware import AnyServer, KnownHosts, SecurityHeaders
from duplex.server.settings import Settings
from duplex.server.speech import openai_error
from duplex.server.tickets import token_wanted
from duplex.server.wires.table import WIRES

__all__ = ["Ingress"]

_PRIVATE = ("at", "ticket", "worker_auth_id", "auth_id")
"""What an address may have that is not the replica's to know."""
_RETRY_SECONDS = "5"


class Ingress:
    """Places callers by what ``note`` is told, with tickets that are signed with the cluster's secret."""

    def __init__(self, settings: Settings, listening: Listening, secret: bytes) -> None:
        self.placement: Placement = Placement()
        self.stopping: bool = False
        """Whether nobody is placed any more."""
        self.settings: Settings = settings
        self.keys: Keys = Keys(Tokens(settings.tokens), twilio=settings.twilio_auth_token.encode() or None)
        self._secret = secret
        self._trust = trust_of(listening)
        self._registry = CollectorRegistry()
        self._placed = Counter("duplex_placed", "Callers who were sent to a replica.", registry=self._registry)
        self._refused = Counter("duplex_place_refused", "Callers for whom no place was told.", registry=self._registry)
        self._replicas = Gauge("duplex_replicas", "Replicas that are there.", registry=self._registry)

    def note(self, reports: Iterable[tuple[float, Report]]) -> None:
        """Take what replicas have told, each so many seconds ago."""
        self.placement.note(reports, anyio.current_time())
        self._replicas.set(len(self.there))

    @property
    def there(self) -> Sequence[Report]:
        """The replicas that are there, the emptiest first."""
        return self.placement.there(anyio.current_time())

    def application(self) -> Starlette:
        """Return the ASGI application."""
        shared = Middleware(
            CORSMiddleware,
            allow_origins=self.settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            allow_private_network=True,
        )
        routes = [
            *self._wire_routes(),
            Route("/api/place", self._place, methods=["POST"], middleware=[shared]),
            *Desk(self).routes(shared),
            Route("/healthz", _health),
            Route("/readyz", self._ready),
            Route("/metrics", self._metrics),
            Mount("/", StaticFiles(directory=str(files("duplex.server") / "page"), html=True)),
        ]
        middleware = [
            Middleware(AnyServer),
            Middleware(KnownHosts, names=self.settings.names),
            Middleware(SecurityHeaders, elsewhere=self._connectable),
        ]
        return Starlette(routes=routes, middleware=middleware)

    def _wire_routes(self) -> Iterator[BaseRoute]:
        for name, kind in WIRES.items():
            if name in self.settings.wires:
                yield WebSocketRoute(kind.path, partial(self._redirect, name))
                yield Route(kind.path, websocket_wanted, methods=["GET", "POST"])

    async def _place(self, request: Request) -> Response:
        """Tell a caller who shows a token where there are places."""
        owner = self.keys.tokens.owner(request.headers.get("authorization"))
        if owner is None:
            return token_wanted()
        chosen = self._choose(request)
        return _places(self._tickets(chosen, owner)) if chosen else self.no_place()

    async def _redirect(self, name: str, websocket: WebSocket) -> None:
        """Send the caller of a wire to a replica, or say why not."""
        kind = WIRES[name]
        known = await check_in(websocket, self.keys, self.settings.origins, kind.owner, kind.credentials)
        if known is None:
            return
        await websocket.send_denial_response(self.redirect(websocket, known[1], kind.path))

    def redirect(self, connection: HTTPConnection, owner: str, path: str) -> Response:
        """Send who has shown the token of an owner to a path of a replica, or say that there is no place."""
        chosen = self._choose(connection)
        if not chosen:
            return self.no_place(openai=connection.scope["type"] == "http")
        places = self._tickets(chosen, owner)
        query = {key: value for key, value in connection.query_params.items() if key not in _PRIVATE}
        there = chosen[0].url
        if connection.scope["type"] == "websocket":
            # Without a scheme: the clients of one library take no other than ws here, those of another none but http.
            there = f"//{urlsplit(there).netloc}"
        location = f"{there}{path}?{urlencode({**query, 'ticket': places[0]['ticket']})}"
        return _places(places, 307, {"Location": location})

    def _choose(self, connection: HTTPConnection) -> Sequence[Report]:
        keeper = connection.query_params.get("at", "")
        chosen = () if self.stopping else self.placement.choose(anyio.current_time(), keeper)
        (self._placed if chosen else self._refused).inc()
        return chosen

    def _tickets(self, chosen: Sequence[Report], owner: str) -> list[dict[str, str]]:
        now = time.time()
        return [{"url": each.url, "ticket": sign_ticket(self._secret, each.name, owner, now)} for each in chosen]

    def no_place(self, *, openai: bool = False) -> Response:
        """Say that there is no place, if need be as clients of ``openai`` read it."""
        text = "every place is taken; call again in a minute"
        if self.stopping or not self.there:
            text = "no replica is there now; call again in a minute"
        return (
            openai_error(503, text) if openai else JSONResponse({"error": text}, 503, {"Retry-After": _RETRY_SECONDS})
        )

    async def _ready(self, _: Request) -> Response:
        """Say whether the next caller would be sent anywhere."""
        there = self.there
        ready = sum(each.state == "ready" for each in there)
        record: dict[str, JsonValue] = {
            "state": "draining" if self.stopping else "ready" if ready else "full" if there else "empty",
            "replicas": len(there),
            "ready": ready,
            "sessions": sum(each.talking for each in there),
            "queue": sum(each.waiting for each in there),
        }
        return JSONResponse(record, 200 if record["state"] == "ready" else 503)

    async def _metrics(self, _: Request) -> Response:
        """Tell Prometheus of all replicas."""
        texts = await fetch_metrics(self.there, self._trust)
        return Response(generate_latest(self._registry) + merge_metrics(texts), media_type="text/plain; version=0.0.4")

    def _connectable(self) -> Iterator[str]:
        """Return where the page may connect to: the machines of the replicas, on any port, as ports change."""
        hosts = {(urlsplit(each.url).scheme, urlsplit(each.url).netloc.rpartition(":")[0]) for each in self.there}
        for scheme, host in sorted(hosts):
            yield f"{scheme}://{host}:*"
            yield f"{scheme.replace('http', 'ws')}://{host}:*"


def _places(places: Sequence[dict[str, str]], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    content = {"places": places, "seconds": Tickets.SECONDS}
    return JSONResponse(content, status, {"Cache-Control": "no-store", **(headers or {})})


async def _health(_: Request) -> Response:
    """Say that the process answers."""
    return PlainTextResponse("ok\n")
