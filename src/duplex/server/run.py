"""Running the server: where it listens, and how it stops.

1. SIGTERM or SIGINT: nobody is let in any more, conversations go on for at most ``drain`` seconds, the rest is ended.
2. A second signal ends everything at once.
"""

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import anyio
import attrs
from starlette.types import ASGIApp
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs] -- it has none

from duplex.concurrency.notifiers import ThreadsafeNotifier
from duplex.engine.model import Model
from duplex.server.accept import ConnectionLimit, descriptor_bound
from duplex.server.asgi import application
from duplex.server.fronts.model_process import serve_with_fronts
from duplex.server.http_server import HttpServer, configuration, most_calls
from duplex.server.listening import Listening
from duplex.server.service import Service
from duplex.server.settings import Settings
from duplex.server.telemetry.protocol import Telemetry
from duplex.transcription.protocol import Transcriber

__all__ = ["listen", "serve"]


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
    if where.fronts > 1:
        given = [models] if isinstance(models, Model) else models
        await serve_with_fronts(given, rules, where, transcriber=transcriber, telemetry=telemetry, started=started)
        return
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
    server = HttpServer(
        configuration(app, where), limit, where.tls(), asked=stopping.notify, listens=started or _nobody
    )
    with contextlib.closing(where.bind()) as bound:
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                try:
                    await stopping.wait()
                    await drain(where.drain)
                finally:
                    try:
                        with anyio.CancelScope(shield=True):
                            await drain(0)
                    finally:  # what drains may fail, and the server would never end
                        server.should_exit = True

            tasks.start_soon(stop)
            for each in beside:
                tasks.start_soon(each)
            # Cancelled, uvicorn would leave its connections open: it ends because it is told to.
            with anyio.CancelScope(shield=True):
                await server.serve(sockets=[bound])
            tasks.cancel_scope.cancel()


def _nobody(_: int) -> None:
    """Is told the port where nobody asked for it."""
