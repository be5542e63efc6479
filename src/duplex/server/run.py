"""Running the server: where it listens, and how it stops.

1. SIGTERM or SIGINT: nobody is let in any more, conversations go on for at most ``drain`` seconds, the rest is ended.
2. A second signal ends everything at once.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import FrameType
from typing import Any, cast

import anyio
import attrs
import uvicorn
from starlette.types import ASGIApp
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from duplex.concurrency.notifiers import ThreadsafeNotifier
from duplex.engine.model import Model
from duplex.server.accept import Acceptor, ConnectionLimit, Counted, descriptor_bound
from duplex.server.asgi import application
from duplex.server.connections import HttpConnection, WebSocketConnection
from duplex.server.listening import Listening
from duplex.server.middleware import RootPath
from duplex.server.service import Service
from duplex.server.settings import Settings
from duplex.server.telemetry.protocol import Telemetry
from duplex.server.wires.table import WIRES
from duplex.transcription.protocol import Transcriber

__all__ = ["listen", "most_calls", "serve"]

PING_SECONDS = 20.0
"""Between pings, and to answer one: who does not is gone, or does not read."""
MAX_HEADER_BYTES = 1 << 14
KEEP_ALIVE_SECONDS = 5
GRACE_SECONDS = 10
"""That connections may take to close once everything has been said."""


async def serve(
    models: Model | Sequence[Model],
    settings: Settings | None = None,
    listening: Listening | None = None,
    *,
    transcriber: Transcriber | None = None,
    telemetry: Telemetry | None = None,
    started: Callable[[int], None] | None = None,
) -> None:
    """Serve on asyncio until SIGTERM or SIGINT, or until cancelled. ``started`` is told the port that is listened on.

    Callers choose among several models by name; the first is that of those who do not. ``telemetry`` is told of calls
    and exports meanwhile.

    Meanwhile numpy's matrix products are of one thread each, in all of the process.

    :raises UsageError: if others could reach the server and no token is wanted, or two models have the same name
    :raises ServerError: if the address is taken, or the certificate cannot be read
    :raises OutputError: if the folder for recordings cannot be written
    :raises MissingDependencyError: if libopus is not installed
    """
    where, rules = listening or Listening(), settings or Settings()
    where.check(rules)
    rules = attrs.evolve(rules, hosts=where.hosts(rules))
    served = application(models, rules, transcriber=transcriber, telemetry=telemetry)
    service: Service = served.state.service
    told = contextlib.nullcontext() if telemetry is None else telemetry.exporting(service.metrics.registry)
    # A product of small matrices that wakes another thread of BLAS costs a core, which then waits for the next one.
    with threadpool_limits(1, user_api="blas"), told:
        await listen(
            served, where, calls=most_calls(service), drain=service.drain, beside=(service.watch_loop,), started=started
        )


async def listen(
    app: ASGIApp,
    where: Listening,
    *,
    calls: int,
    drain: Callable[[float], Awaitable[None]],
    beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
    asked: ThreadsafeNotifier | None = None,
    started: Callable[[int], None] | None = None,
) -> None:
    """Run an application on asyncio until SIGTERM or SIGINT, until ``asked`` is set, or until cancelled.

    There are up to so many ``calls`` at a time. ``drain`` lets nobody in any more, and returns when all calls have
    ended, after so many seconds at most; after 0 it returns at once. What stands ``beside`` runs meanwhile.

    :raises ServerError: if the address is taken, or the certificate cannot be read
    """
    stopping = asked or ThreadsafeNotifier()
    limit = ConnectionLimit(descriptor_bound(calls))
    server = _Server(_config(app, where), limit, where.tls(), asked=stopping.notify, listens=started or _nobody)
    with contextlib.closing(where.bind()) as bound:
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                try:
                    await stopping.wait()
                    await drain(where.drain)
                finally:
                    with anyio.CancelScope(shield=True):
                        await drain(0)
                    server.should_exit = True

            tasks.start_soon(stop)
            for each in beside:
                tasks.start_soon(each)
            # Cancelled, uvicorn would leave its connections open: it ends because it is told to.
            with anyio.CancelScope(shield=True):
                await server.serve(sockets=[bound])
            tasks.cancel_scope.cancel()


class _Server(uvicorn.Server):
    """Uvicorn, which asks instead of stopping at the first signal."""

    def __init__(
        self,
        config: uvicorn.Config,
        limit: ConnectionLimit,
        tls: ssl.SSLContext | None,
        *,
        asked: Callable[[], None],
        listens: Callable[[int], None],
    ) -> None:
        super().__init__(config)
        self._limit = limit
        self._tls = tls
        self._asked = asked
        self._listens = listens
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and tell the port: from here on signals are taken."""

        def handover(counted: Counted) -> HttpConnection:
            return HttpConnection(self.config, self.server_state, counted)

        # Uvicorn only closes them and waits for that.
        self.servers = [
            cast("asyncio.base_events.Server", Acceptor(bound, self._limit, handover, self._tls))
            for bound in sockets or []
        ]
        self.started = True
        for bound in sockets or []:
            self._listens(bound.getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections."""
        await super().shutdown(sockets)
        self._limit.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- uvicorn's signature
        """Take a signal."""
        self._signals += 1
        self._asked()
        if self._signals > 1:
            self.should_exit = self.force_exit = True


def most_calls(service: Service) -> int:
    """Return how many calls a server can have, those who wait with them."""
    return sum(served.model.sessions + service.settings.queue for served in service.models.all)


def _nobody(_: int) -> None:
    """Is told the port where nobody asked for it."""


def _config(app: ASGIApp, where: Listening) -> uvicorn.Config:
    return uvicorn.Config(
        RootPath(app, where.root_path) if where.root_path else app,
        proxy_headers=bool(where.proxies),
        forwarded_allow_ips=list(where.proxies),
        ws=WebSocketConnection,
        ws_max_size=max(kind.max_message_bytes for kind in WIRES.values()),
        ws_per_message_deflate=False,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        http=HttpConnection,
        lifespan="off",
        access_log=False,
        log_level="warning",  # below, it tells the addresses of websockets, with the tickets in them
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
