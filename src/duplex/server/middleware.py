"""What stands between any ASGI server and the application: names, headers, and what some servers lack."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from duplex.server.origins import host_allowed

__all__ = ["AnyServer", "KnownHosts", "RootPath", "SecurityHeaders"]

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_DENIAL = "websocket.http.response"
_NORMAL = 1000
_APPLICATIONS = 3000
"""Close codes from here on are nobody's but the application's."""


class AnyServer:
    """Makes do with servers that can say less than the application does.

    1. Where a websocket cannot be refused with a response, it is refused with a close: its client gets a bare 403.
    2. Where a registered close code is refused (daphne sends 1000 and from 3000 on), 3000 more is sent: 4013 for 1013.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, with a ``send`` that says what can be said."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        extensions: dict[str, Any] = scope.get("extensions") or {}
        denies = _DENIAL in extensions

        async def send_sayable(message: Message) -> None:
            if message["type"] == "websocket.close":
                await _close(message, send)
            elif denies or not message["type"].startswith(_DENIAL):
                await send(message)
            elif message["type"] == f"{_DENIAL}.start":
                await send({"type": "websocket.close", "code": 1000, "reason": ""})

        await self._app({**scope, "extensions": {**extensions, _DENIAL: {}}}, receive, send_sayable)


async def _close(message: Message, send: Send) -> None:
    try:
        await send(message)
    except Exception:
        if message["code"] == _NORMAL or message["code"] >= _APPLICATIONS:
            raise
        await send({**message, "code": message["code"] + _APPLICATIONS})


class KnownHosts:
    """Answers only who calls the server by one of its names."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or refuse."""
        if scope["type"] in ("http", "websocket"):
            host = Headers(scope=scope).get("host")
            if not host_allowed(host, self._names):
                text = f"this server has other names than {host}; add it with --allow-host (Settings.hosts)"
                await JSONResponse({"error": text}, 400)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class RootPath:
    """Lets a proxy ask below a path of its own, whether it takes that path off (``/talk/`` for ``/``) or not."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application below the path."""
        await self._app({**scope, "root_path": self._path}, receive, send)


class SecurityHeaders:
    """Adds headers that keep a page to itself, and to the servers that it may connect to ``elsewhere``."""

    def __init__(self, app: ASGIApp, elsewhere: Callable[[], Iterable[str]] = tuple) -> None:
        self._app = app
        self._elsewhere = elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a ``send`` that adds them."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = " ".join(("connect-src 'self'", *self._elsewhere()))
                added = [
                    (name.lower().encode(), value.replace("connect-src 'self'", own).encode())
                    for name, value in SECURITY_HEADERS.items()
                ]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)
