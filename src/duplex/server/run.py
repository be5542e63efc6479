"""Running the server: where it listens, and how it stops.

1. SIGTERM or SIGINT: nobody is let in any more, conversations go on for at most ``drain`` seconds, the rest is ended.
2. A second signal ends everything at once.
"""

import contextlib
from collections.abc import Callable, Sequence

import anyio
import attrs
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

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

__all__ = ["serve"]


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
    asked = ThreadsafeNotifier()
    limit = ConnectionLimit(descriptor_bound(most_calls(service)))
    server = HttpServer(
        configuration(served, where), limit, where.tls(), asked=asked.notify, listens=started or _nobody
    )
    # A product of small matrices that wakes another thread of BLAS costs a core, which then waits for the next one.
    told = contextlib.nullcontext() if telemetry is None else telemetry.exporting(service.metrics.registry)
    with contextlib.closing(where.bind()) as bound, threadpool_limits(1, user_api="blas"), told:
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                try:
                    await asked.wait()
                    await service.drain(where.drain)
                finally:
                    with anyio.CancelScope(shield=True):
                        await service.drain(0)
                    server.should_exit = True

            tasks.start_soon(stop)
            tasks.start_soon(service.watch_loop)
            # Cancelled, uvicorn would leave its connections open: it ends because it is told to.
            with anyio.CancelScope(shield=True):
                await server.serve(sockets=[bound])
            tasks.cancel_scope.cancel()


def _nobody(_: int) -> None:
    """Is told the port where nobody asked for it."""
