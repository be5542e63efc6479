"""The server as an ASGI application: routes, and who may use them."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib.resources import files

import anyio
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from duplex.engine.model import Model
from duplex.errors import AudioFileError, UsageError
from duplex.events import JsonValue
from duplex.server.call import Call
from duplex.server.consent import Consent
from duplex.server.disclosure import disclosed
from duplex.server.entrance import check_in, deny
from duplex.server.entry import Entry
from duplex.server.handover.resuming import make_line, resume
from duplex.server.listening import check_settings
from duplex.server.middleware import AnyServer, KnownHosts, SecurityHeaders
from duplex.server.recordings_api import recording_routes
from duplex.server.served_models import ServedModel
from duplex.server.service import Service
from duplex.server.settings import Settings
from duplex.server.sideband import sideband_routes
from duplex.server.speech import speech
from duplex.server.telemetry.protocol import Telemetry
from duplex.server.tickets import ClientSecret, Ticket, service_of, token_wanted
from duplex.server.wires.table import SPEECH, WIRES
from duplex.transcription.protocol import Transcriber

__all__ = ["application", "application_of", "describe", "list_models", "no_websocket", "websocket_wanted"]


def application(
    models: Model | Sequence[Model],
    settings: Settings | None = None,
    *,
    transcriber: Transcriber | None = None,
    telemetry: Telemetry | None = None,
) -> Starlette:
    """Return an ASGI application that holds conversations on models; mount it anywhere, or run it with uvicorn.

    Callers choose among several models by name (``?model=``); the first is that of those who do not.
    ``application(...).state.service`` is what its calls share: ``drain`` it before the process ends. The models stay
    the caller's to close, and so does a ``transcriber``, which gives the users' words. ``telemetry`` is told of calls:
    ``duplex.server.telemetry.tracing.Tracing(provider)`` makes spans of them, of your own tracer provider.

    :raises UsageError: if a token is too short, or two models have the same name
    :raises OutputError: if the folder for recordings cannot be written
    :raises MissingDependencyError: if libopus is not installed
    """
    check_settings(settings or Settings())
    given = [models] if isinstance(models, Model) else models
    return application_of(Service(given, settings or Settings(), transcriber, telemetry))


def application_of(service: Service) -> Starlette:
    """Return the application of calls that share a service."""
    # Pages of allowed origins may ask for what they need to call; what a server tells of itself is not for them.
    shared = Middleware(
        CORSMiddleware,
        allow_origins=service.settings.origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
        allow_private_network=True,
    )
    routes = [
        *_wire_routes(service),
        Route("/api/ticket", Ticket, middleware=[shared]),
        *_secret_routes(service.settings, shared),
        *_speech_routes(service, shared),
        *recording_routes(service),
        Route("/api/info", _Info, middleware=[shared]),
        Route("/v1/models", _Models, middleware=[shared]),
        Route("/healthz", _health),
        Route("/readyz", _ready),
        Route("/metrics", _metrics),
        WebSocketRoute("/{path:path}", no_websocket),
        Mount("/", StaticFiles(directory=str(files("duplex.server") / "page"), html=True)),
    ]
    middleware = [
        Middleware(AnyServer),
        Middleware(KnownHosts, names=service.settings.names),
        Middleware(SecurityHeaders),
    ]
    made = Starlette(routes=routes, middleware=middleware)
    made.state.service = service
    return made


def _wire_routes(service: Service) -> Iterator[BaseRoute]:
    if "live" in service.settings.wires:
        yield from sideband_routes(service)
    for name, kind in WIRES.items():
        if name not in service.settings.wires:
            continue
        yield WebSocketRoute(kind.path, partial(_open, name))
        yield Route(kind.path, websocket_wanted, methods=["GET", "POST"])


def _secret_routes(settings: Settings, shared: Middleware) -> Iterator[BaseRoute]:
    if "realtime" in settings.wires:
        yield Route("/v1/realtime/client_secrets", ClientSecret, middleware=[shared])
        yield Route("/v1/realtime/calls", websocket_wanted, methods=["POST"], middleware=[shared])


def _speech_routes(service: Service, shared: Middleware) -> Iterator[BaseRoute]:
    if SPEECH in service.settings.wires and service.models.speaking:
        yield Route("/v1/audio/speech", speech, methods=["POST"], middleware=[shared])


async def _open(name: str, websocket: WebSocket) -> None:
    """Open a caller's line on the wire of a name, or say why not."""
    service, kind = service_of(websocket), WIRES[name]
    known = await check_in(websocket, service.keys, service.settings.origins, kind.owner, kind.credentials)
    if known is None:
        return
    opening, owner = known
    if "resume" in opening.query and kind.resumes:
        await resume(service, websocket, opening, owner)
        return
    try:
        consent = Consent.of(service.settings, name, opening.query)
        wire = kind.open(opening)
        agreed = None if wire.request is None else await service.models.settle(wire.request)
    except (UsageError, AudioFileError) as error:
        await deny(websocket, 400, str(error))
        return
    speaks = service.models.speak if agreed is None else agreed[1].speaks
    told = disclosed(recorded=consent.recorded, synthetic=speaks)
    await websocket.accept(kind.subprotocol if kind.subprotocol in opening.subprotocols else None, told)
    trace = None if service.telemetry is None else service.telemetry.call(name, opening.headers)
    entry = Entry(wire=name, trace=trace, consent=consent)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.watch_loop)
        line = make_line(service, websocket, wire, kind, opening, owner)
        await Call(service, line, owner, agreed, entry).run()
        tasks.cancel_scope.cancel()


async def no_websocket(websocket: WebSocket) -> None:
    """Say where a websocket is."""
    await deny(websocket, 404, "no websocket is here; it is at api/chat, below the page's address")


async def websocket_wanted(request: Request) -> Response:
    """Say what is meant to be here; who posts wants WebRTC."""
    text = "open a websocket here"
    if request.method == "POST":
        text = f"WebRTC is not spoken here; open a websocket at {request.url.path.removesuffix('/calls')}"
    return JSONResponse({"error": text}, 426, {"Upgrade": "websocket"})


class _Models(HTTPEndpoint):
    """Lists the models, in the words of OpenAI's clients."""

    async def get(self, request: Request) -> Response:
        service = service_of(request)
        if service.keys.tokens.owner(request.headers.get("authorization")) is None:
            return token_wanted()
        return list_models(each.name for each in service.models.all)


def list_models(names: Iterable[str]) -> Response:
    """Return a list of models in the words of OpenAI's clients."""
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "duplex"} for name in names]
    return JSONResponse({"object": "list", "data": data})


class _Info(HTTPEndpoint):
    """Tells a page what it talks to."""

    async def get(self, request: Request) -> Response:
        return JSONResponse(describe(service_of(request)))


def describe(service: Service) -> dict[str, JsonValue]:
    """Return what a server tells a page of itself."""
    return {
        "model": service.models.default.name,
        "sessions": service.models.default.model.sessions,
        "persona": service.models.default.takes_persona,
        "voices": _voices(service.models.default),
        "examples": list(service.models.default.examples),
        "models": [_described(served) for served in service.models.hearing],
        "speech": [{"name": each.name, "voices": [*each.voices.names]} for each in service.models.speaking],
        "memory": [*service.models.memory],
        "synthetic": service.models.default.speaks,
        "token": service.keys.tokens.wanted,
        "recorded": service.settings.record is not None,
        "recording_optional": service.settings.record_with_consent,
    }


def _described(served: ServedModel) -> dict[str, JsonValue]:
    described: dict[str, JsonValue] = {
        "name": served.name,
        "kind": served.model.spec.kind,
        "sessions": served.model.sessions,
        "persona": served.takes_persona,
        "synthetic": served.speaks,
        "adapters": [*served.model.adapters],
    }
    return {**described, "voices": _voices(served), "examples": list(served.examples)}


def _voices(served: ServedModel) -> list[JsonValue]:
    return [*served.voices.names] if served.takes_persona else []


async def _health(_: Request) -> Response:
    """Say that the process answers."""
    return PlainTextResponse("ok\n")


async def _ready(request: Request) -> Response:
    """Say whether the next caller would be let in and answered."""
    service = service_of(request)
    models, state = service.models.all, service.models.state
    record: dict[str, JsonValue] = {
        "state": state,
        "sessions": sum(served.admission.talking for served in models),
        "queue": sum(served.admission.waiting for served in models),
    }
    if len(models) > 1:
        record["models"] = {served.name: served.state for served in models}
    return JSONResponse(record, 200 if state == "ready" else 503)


async def _metrics(request: Request) -> Response:
    """Tell Prometheus."""
    service = service_of(request)
    for served in service.models.all:
        service.metrics.answers.labels(served.name).set(served.state not in {"stalled", "closed"})
    return Response(await service.tell_metrics(), media_type="text/plain; version=0.0.4")
