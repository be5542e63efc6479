"""A front: a process that connections, sound and protocols are handled in, for a model of another process.

It is the server as it is with one process (:mod:`duplex.server.run`), but for its models and their admission, which it
asks for. It stops when it is told to, and pays no attention to signals, which are for the model's process.
"""

import asyncio
import contextlib
import functools
import logging
import signal
import socket
from collections.abc import Awaitable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import anyio
import attrs
from anyio.abc import TaskGroup
from prometheus_client import CollectorRegistry
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs] -- it has none

from duplex.engine.model import Model
from duplex.errors import ServerError
from duplex.server.accept import ConnectionLimit, descriptor_bound
from duplex.server.admission import Door
from duplex.server.asgi import application_of
from duplex.server.fronts.bell import Bell
from duplex.server.fronts.crowd import Crowd
from duplex.server.fronts.distant_door import DistantDoor
from duplex.server.fronts.distant_model import DistantModel
from duplex.server.fronts.distant_seats import DistantSeating
from duplex.server.fronts.messages import Link, Message, receive
from duplex.server.fronts.neighbours import Neighbours
from duplex.server.fronts.plan import FrontPlan, SharedMemory, rings_of, size_of
from duplex.server.fronts.ring import RingReader, RingWriter
from duplex.server.fronts.shared_tickets import SharedTickets
from duplex.server.fronts.totals import families_of
from duplex.server.http_server import HttpServer, configuration, most_calls
from duplex.server.logs import configure_logging
from duplex.server.retention import Retention
from duplex.server.service import Service
from duplex.server.telemetry.protocol import Telemetry

__all__ = ["main"]

log: logging.Logger = logging.getLogger(__name__)

METRICS_SECONDS = 1.0
"""Between two times that the model's process is told what has been counted: what a front that is killed loses."""
LAST_SECONDS = 2.0
"""That calls may take to tell their callers that the model's process has ended."""


def main(link: int) -> int:
    """Be a front, with the model's process at the other end of a socket; return the exit status."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    return anyio.run(_run, link, backend_options={"use_uvloop": find_spec("uvloop") is not None})


async def _run(descriptor: int) -> int:
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor))
    told = await receive(reader)
    if told is None:
        return 1
    plan = FrontPlan.from_bytes(told["plan"])
    if plan.log_format is not None:
        configure_logging(plan.log_format)
    with threadpool_limits(1, user_api="blas"):
        return await _Front(plan, reader, writer).run()


class _Server(HttpServer):
    """A server that leaves signals to the model's process."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Pay no attention."""


class _Front:
    def __init__(self, plan: FrontPlan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._plan = plan
        self._link = Link(reader, writer, self._obey)
        self._bell = Bell(socket.socket(fileno=plan.bell), self._hear)
        specs = [model.spec for model in plan.models]
        memory = SharedMemory(plan.memory, size_of(specs)).memory
        self._seatings = [
            DistantSeating(
                self._link, number, spec, RingWriter(memory, *commands), RingReader(memory, *results), self._bell
            )
            for number, (spec, (commands, results)) in enumerate(zip(specs, rings_of(specs), strict=True))
        ]
        self._models: list[Model] = [
            DistantModel(each, self._link, number, self._seatings[number]) for number, each in enumerate(plan.models)
        ]
        self._doors = [DistantDoor(self._link, number) for number in range(len(specs))]
        self._telemetry = self._make_telemetry()
        self._service = self._make_service()
        self._server = self._make_server()
        self._stopping = False
        self._tasks: TaskGroup
        self._status = 0

    def _make_telemetry(self) -> Telemetry | None:
        if self._plan.signals is None:
            return None
        from duplex.server.telemetry.exporting import Exporting  # noqa: PLC0415 -- of the extra otel

        return Exporting(self._plan.signals)

    def _make_service(self) -> Service:
        def door(model: Model) -> Door:
            return self._doors[self._models.index(model)]

        service = Service(self._models, self._plan.settings, telemetry=self._telemetry, doors=door)
        # Recordings are looked through by the model's process, once for all.
        service.retention = Retention(None, service.metrics, days=0, gigabytes=0)
        service.keys = attrs.evolve(service.keys, tickets=SharedTickets(Path(self._plan.folder) / "tickets"))
        service.tell_metrics = self._ask_metrics
        service.neighbours = self._neighbours = Neighbours(Path(self._plan.folder), self._plan.number, service)
        return service

    def _make_server(self) -> HttpServer:
        where, number = self._plan.listening, self._plan.number
        crowd = Crowd(SharedMemory(self._plan.crowd, 8 * where.fronts).memory, where.fronts)

        def listens(_: int) -> None:
            crowd.note(number, 0)
            self._link.tell("started")

        return _Server(
            configuration(application_of(self._service), where),
            ConnectionLimit(descriptor_bound(most_calls(self._service)), functools.partial(crowd.note, number)),
            where.tls(),
            asked=_nobody,
            listens=listens,
            busiest=functools.partial(crowd.busiest, number),
        )

    async def run(self) -> int:
        """Serve until the model's process says that it is enough, or ends; return the exit status."""
        bound = socket.socket(fileno=self._plan.bound)
        # As Listening.bind: asyncio sends small messages at once only on sockets that say they are TCP.
        bound = socket.socket(bound.family, bound.type, socket.IPPROTO_TCP, fileno=bound.detach())
        with contextlib.nullcontext() if self._telemetry is None else self._telemetry.exporting(CollectorRegistry()):
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._follow)
                self._tasks.start_soon(self._service.watch_loop)
                self._tasks.start_soon(self._tell_metrics)
                with contextlib.closing(bound):
                    async with self._neighbours.listening():
                        await self._server.serve(sockets=[bound])
                self._stopping = True
                self._link.tell("metrics", families=families_of(self._service.metrics.registry))
                self._tasks.cancel_scope.cancel()
        for model in self._models:
            model.close()
        return self._status

    async def _follow(self) -> None:
        """Take what the model's process tells until it is gone, and then end all calls."""
        await self._link.run()
        if self._stopping:
            return
        log.critical("the connection with the model's process has ended; calls end, and this front with them")
        self._status = 1
        for seating in self._seatings:
            seating.end()
        await self._drain(LAST_SECONDS)

    async def _drain(self, seconds: float) -> None:
        await self._service.drain(seconds)
        self._server.should_exit = True

    async def _tell_metrics(self) -> None:
        while True:
            await anyio.sleep(METRICS_SECONDS)
            self._link.tell("metrics", families=families_of(self._service.metrics.registry))

    async def _ask_metrics(self) -> bytes:
        """Return the metrics of the whole server."""
        try:
            answer = await self._link.ask("metrics", families=families_of(self._service.metrics.registry))
        except ServerError:  # for as long as this front still ends its calls
            return self._service.metrics.text()
        text: bytes = answer["text"]
        return text

    def _hear(self, model: int, written: int) -> None:
        try:
            self._seatings[model].hear(written)
        except Exception:
            log.exception("what the model's process tells makes no sense")
            self._link.close()

    def _obey(self, name: str, told: Message) -> Message | Awaitable[Message | None] | None:
        match name:
            case "seat":
                self._seatings[int(told["model"])].bring(told)
            case "board":
                self._note(told)
            case _:
                self._tasks.start_soon(self._drain, told["seconds"])
        return None

    def _note(self, told: Message) -> None:
        """Take what is told of all fronts together."""
        for number, (talking, waiting, full, free, late, closed) in enumerate(told["counts"]):
            seating, model = self._seatings[number], self._models[number]
            self._doors[number].note((talking, waiting, full), told["positions"][number])
            seating.free, seating.late = free, bool(late)
            if closed and not model.closed:
                model.close()
        self._service.update()


def _nobody() -> None:
    """Is told of signals, of which none comes."""
