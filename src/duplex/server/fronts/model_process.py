"""The model's process of a server with fronts: it steps the models, lets callers in, and keeps the fronts running.

1. A front that ends takes its calls along; their slots and places are free at once, and another front takes its place.
2. One that says nothing for half a minute, or does not begin within a minute, is ended. For as long as another one
   serves, one that cannot be started is tried again, ever more rarely; else three times, which end the server.
3. SIGTERM or SIGINT: nobody is let in any more, and every front ends when its conversations have, or after ``drain``
   seconds. A second signal ends everything at once.
4. If this process ends, the fronts see it, and end their calls with a reason.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

import anyio
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs] -- it has none

from duplex.concurrency.groups import ungrouped
from duplex.concurrency.notifiers import Notifier
from duplex.engine.model import Model
from duplex.errors import ServerError, UsageError
from duplex.server.admission import Admission
from duplex.server.fronts.crowd import ABSENT, Crowd
from duplex.server.fronts.front_process import STOP_SECONDS, FrontProcess, Hall
from duplex.server.fronts.plan import DESCRIPTORS, FrontPlan, ModelPlan, SharedMemory
from duplex.server.fronts.whole import Whole
from duplex.server.listening import Listening, check_fronts, check_settings
from duplex.server.logs import configured_format, fields
from duplex.server.retention import Retention
from duplex.server.served_models import ServedModels
from duplex.server.settings import Settings
from duplex.server.telemetry.protocol import Telemetry
from duplex.transcription.protocol import Transcriber

__all__ = ["serve_with_fronts"]

log: logging.Logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""Between two looks at what nobody tells of: whether a model is late or closed."""
FALSE_STARTS = 3
"""Fronts in a row that may end before they have begun, where no other one serves."""
RESTART_SECONDS = 0.2
"""Before a front is replaced; twice as long after each false start."""
LONGEST_PAUSE = 30.0
START_SECONDS = 60.0
"""That a front may take to begin."""
SILENT_SECONDS = 30.0
"""Without a word from a front, after which it counts as hung; it tells its metrics once a second."""


async def serve_with_fronts(
    models: Sequence[Model],
    settings: Settings,
    where: Listening,
    *,
    transcriber: Transcriber | None,
    telemetry: Telemetry | None,
    started: Callable[[int], None] | None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until cancelled; arguments and errors are those of ``serve``.

    :raises UsageError: if something is asked for that several fronts cannot do
    :raises ServerError: if the address is taken, or fronts do not start
    """
    synthesis = any(model.spec.kind == "tts" for model in models)
    check_fronts(where.fronts, transcriber=transcriber is not None, synthesis=synthesis)
    if telemetry is not None and telemetry.signals is None:
        raise UsageError("these spans are of one process, as their provider is; serve with one front")
    check_settings(settings)
    with (
        contextlib.closing(where.bind()) as bound,
        tempfile.TemporaryDirectory(prefix="duplex-") as folder,
        threadpool_limits(1, user_api="blas"),
    ):
        process = _ModelProcess(models, settings, where, bound, folder, telemetry)
        with contextlib.nullcontext() if telemetry is None else telemetry.exporting(process.whole.registry):
            await process.run(started)


class _ModelProcess:
    def __init__(
        self,
        models: Sequence[Model],
        settings: Settings,
        where: Listening,
        bound: socket.socket,
        folder: str,
        telemetry: Telemetry | None,
    ) -> None:
        calls_of: Counter[str] = Counter()
        self._admissions = [
            Admission(model.sessions, settings.queue, settings.per_address, calls_of) for model in models
        ]
        admissions = iter(self._admissions)
        self._served = ServedModels(models, settings, lambda _: next(admissions)).all
        self._plans = [ModelPlan.of(model) for model in models]
        self._settings = settings
        self._where = where
        self._bound = bound
        self._folder = folder
        self._fronts: dict[int, FrontProcess] = {}
        """Those that run."""
        self.whole: Whole = Whole(
            self._served, telemetry, lambda: [front.metrics for front in list(self._fronts.values())]
        )
        self._hall = Hall(models, self._admissions, self._tell_board, self.whole.text)
        self._plan(0, dict.fromkeys(DESCRIPTORS, -1)).to_bytes()  # what cannot be handed over shows now
        self._crowd_memory = SharedMemory.of(8 * where.fronts)
        self._crowd = Crowd(self._crowd_memory.memory, where.fronts)
        self._all_have_begun = False
        self._asked = Notifier()
        """Rung by signals."""
        self._signals = 0
        self._changed = Notifier()
        """Rung when somebody comes or goes, a front among them."""
        self._board: list[tuple[int, ...]] = []

    async def run(self, started: Callable[[int], None] | None) -> None:
        with self.whole.observed(), self._signalled(), contextlib.closing(self._crowd_memory), ungrouped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch)
                tasks.start_soon(self.whole.metrics.watch_loop)
                tasks.start_soon(self._stop)
                tasks.start_soon(self._retention().run)
                async with anyio.create_task_group() as fronts:
                    for number in range(self._where.fronts):
                        self._crowd.note(number, ABSENT)
                        fronts.start_soon(self._keep, number)
                    await self._all_started()
                    if started is not None and not self._signals:
                        started(self._bound.getsockname()[1])
                tasks.cancel_scope.cancel()

    async def _all_started(self) -> None:
        def begun() -> int:
            return sum(front.started for front in self._fronts.values())

        while begun() < self._where.fronts and not self._signals:
            await self._changed.wait()
        self._all_have_begun = True

    async def _keep(self, number: int) -> None:
        """Keep a front running.

        :raises ServerError: if it does not start, and no other one serves
        """
        false_starts = 0
        while not self._signals:
            try:
                begun = await self._run_front(number)
            except OSError as error:
                begun = False
                log.error("a process of the front cannot be started: %s", error, extra=fields(front=number))  # noqa: TRY400 -- one line says it
            false_starts = 0 if begun else false_starts + 1
            others = self._all_have_begun and any(front.started for front in self._fronts.values())
            if false_starts >= FALSE_STARTS and not others and not self._signals:
                raise ServerError("the processes of the server's front do not start; the log before this says why")
            with anyio.move_on_after(min(RESTART_SECONDS * 2 ** min(false_starts, 10), LONGEST_PAUSE)):
                while not self._signals:
                    await self._changed.wait()

    async def _run_front(self, number: int) -> bool:
        """Run a front to its end; return whether it has begun.

        :raises OSError: if there are too few descriptors or processes for it
        """
        front = FrontProcess(self._hall, lambda given: self._plan(number, given), self._bound, self._crowd_memory)
        await front.connect()
        self._fronts[number] = front
        if self._signals:  # they came while it was being started
            front.drain(0)
        try:
            await front.run()
        finally:
            with self.whole.leaving(front.metrics):
                del self._fronts[number]
            self._crowd.note(number, ABSENT)
        if not self._signals:
            log.error("a front has ended, and its calls with it", extra=fields(front=number, status=front.status))
        return front.started

    def _plan(self, number: int, given: Mapping[str, int]) -> FrontPlan:
        return FrontPlan(
            number=number,
            models=self._plans,
            settings=self._settings,
            listening=self._where,
            folder=self._folder,
            log_format=configured_format(),
            signals=self.whole.signals_of_front(),
            **given,
        )

    async def _watch(self) -> None:
        looked_at = anyio.current_time()
        while True:
            await anyio.sleep(TICK_SECONDS)
            now = anyio.current_time()
            # Who was suspended meanwhile, maybe with the fronts, has not listened for as long as the clock says.
            listened, looked_at = min(now - looked_at, 2 * TICK_SECONDS), now
            for number, front in self._fronts.items():
                front.flush()
                front.silent += listened
                if front.silent > (SILENT_SECONDS if front.started else START_SECONDS):
                    log.error("a front does not answer and is killed", extra=fields(front=number))
                    front.silent = 0.0
                    front.kill()
            if self._counts() != self._board:
                self._tell_board()

    async def _stop(self) -> None:
        """End the fronts at the first signal, when their conversations have ended; at the second at once."""
        while not self._signals:
            await self._asked.wait()
        log.info("draining", extra=fields(seconds=self._where.drain))
        for admission in self._admissions:
            admission.draining = True
        self._tell_board()
        for front in self._fronts.values():
            front.drain(self._where.drain)
        with anyio.move_on_after(self._where.drain + STOP_SECONDS):
            while self._signals == 1:
                await self._asked.wait()
        for front in self._fronts.values():
            front.kill()

    def _take_signal(self) -> None:
        self._signals += 1
        self._asked.notify_all()
        self._changed.notify_all()

    def _tell_board(self) -> None:
        """Tell all fronts how many talk and wait."""
        self._board = self._counts()
        self.whole.count(self._board)
        for front in self._fronts.values():
            front.tell_board(self._board)
        self._changed.notify_all()

    def _counts(self) -> list[tuple[int, ...]]:
        return [
            (each.talking, each.waiting, each.full, model.seating.free, model.seating.late, model.closed)
            for model, each in zip(self._hall.models, self._admissions, strict=True)
        ]

    def _retention(self) -> Retention:
        rules = self._settings
        return Retention(rules.record, self.whole.metrics, days=rules.record_days, gigabytes=rules.record_gigabytes)

    @contextmanager
    def _signalled(self) -> Generator[None]:
        """Take signals, where that can be."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop, taken = asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT)
        for each in taken:
            loop.add_signal_handler(each, self._take_signal)
        try:
            yield
        finally:
            for each in taken:
                loop.remove_signal_handler(each)
