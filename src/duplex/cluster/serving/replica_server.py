"""A replica's server: in a thread of its own, on a free port, telling how it is until it is stopped. Without Ray.

A replica that is stopped lets nobody in, has its calls moved to others, and waits for the rest as long as the longest
may take, or for less if all replicas are told to stop.
"""

import contextlib
import logging
import queue
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future
from importlib.util import find_spec
from itertools import cycle
from typing import TypeAlias

import anyio
import attrs
from anyio.from_thread import start_blocking_portal
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs] -- it has none

from duplex.cluster.serving.assignment import Held
from duplex.cluster.serving.placing import Report, Standing
from duplex.cluster.serving.ticket import PlaceTickets
from duplex.concurrency.notifiers import ThreadsafeNotifier
from duplex.errors import ServerError
from duplex.server.asgi import application, describe
from duplex.server.http_server import most_calls
from duplex.server.listening import Listening
from duplex.server.run import listen
from duplex.server.service import Service
from duplex.server.settings import Settings

__all__ = ["ReplicaServer", "Tell"]

log: logging.Logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.5
"""Between two reports, if nothing happens."""
BETWEEN_SECONDS = 0.1
"""The same at least, whatever happens."""
START_SECONDS = 60.0
Tell: TypeAlias = Callable[[Report], Awaitable[Standing | None]]
"""Tells the registry; returns what is said in return, ``None`` if nobody is there."""


class ReplicaServer:
    """The server of a replica of a name, which takes tickets that are signed with a secret."""

    def __init__(self, held: Held, settings: Settings, listening: Listening, *, name: str, secret: bytes) -> None:
        self._listening = listening
        self._name = name
        self._app = application(held.models, settings, transcriber=held.transcriber)
        self._service: Service = self._app.state.service
        self._service.keys = attrs.evolve(self._service.keys, tickets=PlaceTickets(secret, name))
        self._others: tuple[str, ...] = ()
        self._turn: Iterator[str] = cycle(())
        self._service.next_place = self._next_other
        self._draining: anyio.CancelScope
        self._asked: ThreadsafeNotifier
        self.url: str = ""
        """Where it is, once it runs."""

    @contextlib.contextmanager
    def running(self, tell: Tell) -> Generator["Future[None]"]:
        """Serve in a thread until the block ends, which waits for calls; give what is done when the server has ended.

        :raises ServerError: if it cannot listen
        """
        port: queue.Queue[int | None] = queue.Queue()
        options = {"use_uvloop": find_spec("uvloop") is not None}
        with threadpool_limits(1, user_api="blas"), start_blocking_portal("asyncio", options) as portal:
            serving = portal.start_task_soon(self._serve, tell, port.put)
            serving.add_done_callback(lambda _: port.put(None))
            number = port.get(timeout=START_SECONDS)
            if number is None:
                serving.result()
                raise ServerError("the replica's server ended as it began")
            try:
                yield serving
            finally:
                self._asked.notify()
                serving.result()

    def load(self) -> tuple[int, int]:
        """Return how many callers talk or wait, and how many places there are; from any thread."""
        models = self._service.models.all
        calls = sum(each.admission.talking + each.admission.waiting for each in models)
        return calls, sum(each.model.sessions for each in models)

    def report(self) -> Report:
        """Return what is told of the replica now."""
        models = self._service.models
        return Report(
            name=self._name,
            url=self.url,
            places=sum(each.model.sessions for each in models.all),
            talking=sum(each.admission.talking for each in models.all),
            waiting=sum(each.admission.waiting for each in models.all),
            state=models.state,
            about=describe(self._service),
        )

    async def _serve(self, tell: Tell, started: Callable[[int], None]) -> None:
        self._asked, self._draining = ThreadsafeNotifier(), anyio.CancelScope()
        scheme = "http" if self._listening.certificate is None else "https"
        host = f"[{self._listening.host}]" if ":" in self._listening.host else self._listening.host

        def listens(port: int) -> None:
            self.url = f"{scheme}://{host}:{port}"
            started(port)

        async def tell_often() -> None:
            await self._tell_often(tell)

        await listen(
            self._app,
            self._listening,
            calls=most_calls(self._service),
            drain=self._drain,
            beside=(self._service.watch_loop, tell_often),
            asked=self._asked,
            started=listens,
        )

    async def _tell_often(self, tell: Tell) -> None:
        """Tell how it is: at once when somebody comes or goes, and twice a second anyway."""
        while True:
            if self.url:
                standing = await tell(self.report())
                if standing is not None:
                    self._take(standing)
            await anyio.sleep(BETWEEN_SECONDS)
            with anyio.move_on_after(REPORT_SECONDS - BETWEEN_SECONDS):
                await self._service.changed.wait()

    def _take(self, standing: Standing) -> None:
        """Note what is said of the others, and of the end."""
        if standing.others != self._others:
            self._others = standing.others
            self._turn = cycle(self._others)
        if standing.grace is not None:
            self._draining.deadline = min(self._draining.deadline, anyio.current_time() + standing.grace)

    def _next_other(self) -> str | None:
        return next(self._turn, None)

    async def _drain(self, seconds: float) -> None:
        """Have all calls ended within so many seconds, or within the fewer that all replicas are told."""
        if not seconds:
            await self._service.drain(0)
            return
        with self._draining:
            self._draining.deadline = min(self._draining.deadline, anyio.current_time() + seconds)
            await self._service.drain(seconds)
