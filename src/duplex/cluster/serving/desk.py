"""What a cluster's door answers over HTTP beside places, for clients that know single servers. No sound passes it.

1. What all replicas have alike is answered here: the models, tickets and client secrets. These are good here, once:
   whoever opens a wire with one is redirected with a replica's own.
2. A text that is to be said is redirected (307) to a replica with a ticket, as calls are.
3. What one replica alone has, recordings on its machine and what is beside a call, is asked for there: who asks here is
   told that.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, cast

from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from duplex.cluster.serving.placing import Report
from duplex.events import JsonValue
from duplex.server.asgi import list_models, no_websocket, websocket_wanted
from duplex.server.auth import Keys
from duplex.server.entrance import deny
from duplex.server.settings import Settings
from duplex.server.speech import openai_error
from duplex.server.tickets import give_client_secret, give_ticket, token_wanted
from duplex.server.wires.table import SPEECH

__all__ = ["Desk", "Door"]

_SPEECH_PATH = "/v1/audio/speech"
_BESIDE_CALLS = (
    "a call is at one replica; ask there, at the address that its websocket was redirected to (POST /api/place tells "
    "all that have places)"
)
_RECORDINGS = (
    "each replica keeps recordings on its own machine; ask at each of these, with the same token, or run duplex "
    "recordings on the machines"
)
_NO_SPEECH = "no model of these replicas says texts; serve one that does, such as kyutai/tts-1.6b-en_fr"


class Door(Protocol):
    """The door of a cluster, as far as its desk has to know it."""

    settings: Settings
    keys: Keys

    @property
    def there(self) -> Sequence[Report]:
        """The replicas that are there, the emptiest first."""
        ...

    def redirect(self, connection: HTTPConnection, owner: str, path: str) -> Response:
        """Send who has shown the token of an owner to a path of a replica, or say that there is no place."""
        ...

    def no_place(self, *, openai: bool = False) -> Response:
        """Say that there is no place, if need be as clients of ``openai`` read it."""
        ...


class Desk:
    """Answers for the replicas of a door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def routes(self, shared: Middleware) -> Iterator[BaseRoute]:
        """Return what is answered; ``shared`` lets pages of allowed origins ask, too."""
        settings = self._door.settings
        yield Route("/api/info", self._info, middleware=[shared])
        yield Route("/api/ticket", self._ticket, methods=["POST"], middleware=[shared])
        yield Route("/v1/models", self._models, middleware=[shared])
        if "realtime" in settings.wires:
            yield Route("/v1/realtime/client_secrets", self._client_secret, methods=["POST"], middleware=[shared])
            yield Route("/v1/realtime/calls", websocket_wanted, methods=["POST"], middleware=[shared])
        if SPEECH in settings.wires:
            yield Route(_SPEECH_PATH, self._speech, methods=["POST"], middleware=[shared])
        if "live" in settings.wires:
            yield WebSocketRoute("/v1/live/sessions/{session_id}/attach", _attach)
            yield Route("/v1/live/sessions/{session_id}/hangup", _hang_up, methods=["POST"])
        if settings.record is not None and self._door.keys.tokens.wanted:
            yield Route("/api/recordings", self._recordings, methods=["GET", "DELETE"])
            yield Route("/api/recordings/{session_id}", self._recordings, methods=["DELETE"])
        yield WebSocketRoute("/{path:path}", no_websocket)

    async def _info(self, _: Request) -> Response:
        """Tell a page what it talks to: what the replicas tell, which are alike, with the places of all."""
        there = self._door.there
        if not there:
            return self._door.no_place()
        places = Counter[str]()
        for each in there:
            for model in _described(each.about, "models"):
                places[model["name"]] += model["sessions"]
        models: JsonValue = [
            {**each, "sessions": places[each["name"]]} for each in _described(there[0].about, "models")
        ]
        sessions: JsonValue = sum(each.places for each in there)
        summed = {"sessions": sessions, "models": models, "replicas": len(there), "placed": True}
        return JSONResponse({**there[0].about, **summed})

    async def _models(self, request: Request) -> Response:
        """List the models."""
        if self._owner(request) is None:
            return token_wanted()
        there = self._door.there
        return list_models(_names(there[0])) if there else self._door.no_place(openai=True)

    async def _ticket(self, request: Request) -> Response:
        """Give a ticket that is good here."""
        return give_ticket(request, self._door.keys)

    async def _client_secret(self, request: Request) -> Response:
        """Give a client secret that is good here."""
        there = self._door.there
        if not there:
            return self._door.no_place(openai=True)
        return give_client_secret(request, self._door.keys, str(there[0].about["model"]))

    async def _speech(self, request: Request) -> Response:
        """Send who wants a text to be said to a replica."""
        owner = self._owner(request)
        if owner is None:
            return token_wanted()
        async for _ in request.stream():  # with something unread, the connection would be reset before the answer
            pass
        there = self._door.there
        if there and not _described(there[0].about, "speech"):
            return openai_error(404, _NO_SPEECH)
        return self._door.redirect(request, owner, _SPEECH_PATH)

    async def _recordings(self, request: Request) -> Response:
        """Say where recordings are."""
        if self._owner(request) is None:
            return token_wanted()
        return _error(_RECORDINGS, replicas=[f"{each.url}/api/recordings" for each in self._door.there])

    def _owner(self, request: Request) -> str | None:
        return self._door.keys.tokens.owner(request.headers.get("authorization"))


async def _attach(websocket: WebSocket) -> None:
    """Say where calls are observed."""
    await deny(websocket, 404, _BESIDE_CALLS)


async def _hang_up(_: Request) -> Response:
    """Say where calls are ended."""
    return _error(_BESIDE_CALLS)


def _error(text: str, **more: JsonValue) -> Response:
    return JSONResponse({"error": text, **more}, 404)


def _names(report: Report) -> Iterable[str]:
    return (each["name"] for kind in ("models", "speech") for each in _described(report.about, kind))


def _described(about: Any, kind: str) -> list[dict[str, Any]]:
    """Return what a replica tells of its models that hear (``models``), or say texts (``speech``)."""
    return cast("list[dict[str, Any]]", about.get(kind) or [])
