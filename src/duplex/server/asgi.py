"""The server as an ASGI application: routes, and who may use them."""

from importlib.resources import files

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from duplex.engine.model import Model
from duplex.errors import UsageError
from duplex.server.auth import origin_allowed
from duplex.server.call import Call
from duplex.server.call_parameters import CallParameters
from duplex.server.service import Service
from duplex.server.settings import Settings

__all__ = ["application"]

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def application(model: Model, settings: Settings | None = None) -> Starlette:
    """Return an ASGI application that holds conversations on a model; mount it anywhere, or run it with uvicorn.

    ``application(...).state.service`` is what its calls share: ``drain`` it before the process ends. The model stays
    the caller's to close.

    :raises UsageError: if a token is too short
    """
    service = Service(model, settings or Settings())
    routes = [
        WebSocketRoute("/api/chat", _chat),
        Route("/api/chat", _websocket_wanted),
        Route("/api/ticket", _ticket, methods=["POST"]),
        Route("/api/info", _info),
        Route("/healthz", _health),
        Route("/readyz", _ready),
        Route("/metrics", _metrics),
        Mount("/", StaticFiles(directory=str(files("duplex.server") / "page"), html=True)),
    ]
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=list(service.settings.hosts), www_redirect=False),
        Middleware(_SecurityHeaders),
    ]
    made = Starlette(routes=routes, middleware=middleware)
    made.state.service = service
    return made


async def _chat(websocket: WebSocket) -> None:
    service = _service(websocket)
    if not origin_allowed(websocket.headers.get("origin"), websocket.headers.get("host"), service.settings.origins):
        await _deny(websocket, 403, "pages of this origin may not call; allow it with --origin")
        return
    if not _let_in(websocket):
        await _deny(websocket, 401, "show a token (Authorization: Bearer ...) or a ticket (?ticket=...)")
        return
    try:
        parameters = CallParameters.read(websocket.query_params)
    except UsageError as error:
        await _deny(websocket, 400, str(error))
        return
    await websocket.accept()
    await Call(service, websocket, parameters).run()


async def _websocket_wanted(_: Request) -> Response:
    """Say what is meant to be here."""
    return JSONResponse({"error": "open a websocket here"}, 426, {"Upgrade": "websocket"})


async def _ticket(request: Request) -> Response:
    """Give a ticket to who shows a token."""
    service = _service(request)
    if not service.tokens.allow(request.headers.get("authorization")):
        return JSONResponse({"error": "show a token (Authorization: Bearer ...)"}, 401, {"WWW-Authenticate": "Bearer"})
    ticket = service.tickets.issue(anyio.current_time())
    return JSONResponse({"ticket": ticket, "seconds": service.tickets.SECONDS}, headers={"Cache-Control": "no-store"})


async def _info(request: Request) -> Response:
    """Tell a page what it talks to."""
    service = _service(request)
    model = service.model
    return JSONResponse({"model": model.name, "sessions": model.sessions, "token": service.tokens.wanted})


async def _health(_: Request) -> Response:
    """Say that the process answers."""
    return PlainTextResponse("ok\n")


async def _ready(request: Request) -> Response:
    """Say whether the next caller would be let in and answered."""
    service = _service(request)
    state = service.state
    record = {"state": state, "sessions": service.admission.talking, "queue": service.admission.waiting}
    return JSONResponse(record, 200 if state == "ready" else 503)


async def _metrics(request: Request) -> Response:
    """Tell Prometheus."""
    return Response(_service(request).metrics.text(), media_type="text/plain; version=0.0.4")


def _service(connection: HTTPConnection) -> Service:
    service: Service = connection.app.state.service
    return service


def _let_in(websocket: WebSocket) -> bool:
    """Tell whether a caller has shown a token, or a ticket; ``worker_auth_id`` is the original's word for one."""
    service = _service(websocket)
    if service.tokens.allow(websocket.headers.get("authorization")):
        return True
    ticket = websocket.query_params.get("ticket") or websocket.query_params.get("worker_auth_id") or ""
    return service.tickets.redeem(ticket, anyio.current_time())


async def _deny(websocket: WebSocket, status: int, text: str) -> None:
    await websocket.send_denial_response(JSONResponse({"error": text}, status))


class _SecurityHeaders:
    """Adds headers that keep a page to itself."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._inner(scope, receive, send_with_headers)
