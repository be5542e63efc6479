"""What runs on the cluster's machines: the look at what is finished, and the actor that holds the model.

Both are Ray Data's: items come in blocks, as bytes, and rows go out. Whatever goes wrong with a recording is its row's.
"""

import contextlib
import os
import pickle
import secrets
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs

from duplex.cluster.batch.items import Item, fetched, files_of
from duplex.cluster.batch.job import Job, Ready, Runner
from duplex.cluster.batch.places import Place
from duplex.cluster.batch.rows import Row, failed_row
from duplex.concurrency.groups import ungrouped
from duplex.errors import DuplexError

__all__ = ["BatchWorker", "Task", "look_at"]

BETWEEN_REPORTS = 0.5
"""Seconds between two reports of a worker."""
ATTEMPTS = 2
"""How often a block is begun with, before it is taken to be what kills the workers."""
PATIENCE = 5.0
"""Seconds that a report may take."""


@attrs.frozen(kw_only=True)
class Task:
    """What every worker is told; ``folder`` is where the driver was started, for paths that are relative to it."""

    job: Job
    place: Place
    folder: str

    def enter(self) -> None:
        """Go to the driver's folder, if it is there."""
        with contextlib.suppress(OSError):
            os.chdir(self.folder)


def look_at(block: Any, task: Task) -> Any:
    """Return the rows of what is finished in a block of items, empty ones for what is to be done."""
    task.enter()
    items: list[Item] = [pickle.loads(packed) for packed in block["item"].to_pylist()]  # noqa: S301 -- the driver's
    rows: list[Row | None] = []
    try:
        with task.place.opened([task.job.marker(item) for item in items]) as work:
            # What has no results and lies elsewhere is not fetched only to be looked at.
            seen = [item.is_here or (work / task.job.marker(item)).is_file() for item in items]
            with fetched([item for item, wanted in zip(items, seen, strict=True) if wanted]) as payloads:
                waiting = iter(payloads)
                rows = [
                    _look(task.job, item, next(waiting), work) if wanted else None
                    for item, wanted in zip(items, seen, strict=True)
                ]
    except Exception as error:  # noqa: BLE001 -- the place is out of reach, for these as for all
        rows = [failed_row(item, error, fatal=True) for item in items]
    return _table([b"" if row is None else row.packed() for row in rows])


def _look(job: Job, item: Item, payload: Any, work: Path) -> Row | None:
    if isinstance(payload, Exception):
        return failed_row(item, payload)
    row = job.look(Ready(item=item, payload=payload), work)
    return None if row is None else _relabelled(row, item, payload)


class BatchWorker:
    """An actor with a model, which is loaded once, and as many recordings in hand as it has places."""

    def __init__(self, task: Task, tally: Any) -> None:
        task.enter()
        self._task = task
        self._tally = tally
        self._id = secrets.token_hex(8)
        self._before = self._seconds = 0.0
        self._stopped = False
        self._failure: Exception | None = None
        self._runner: Runner | None = None
        self._open = contextlib.ExitStack()
        try:
            self._runner = self._open.enter_context(task.job.opened())  # until the process ends
        except Exception as error:  # noqa: BLE001 -- it is the driver that tells
            self._failure = error

    def __call__(self, block: Any) -> Any:
        """Return a row for each item of a block."""
        items: list[Item] = [pickle.loads(packed) for packed in block["item"].to_pylist()]  # noqa: S301 -- the driver's
        rows: dict[int, Row] = {}
        if self._runner is None or self._failure is not None:
            error = self._failure or RuntimeError("the worker has not started")
            rows = {item.index: failed_row(item, error, fatal=True) for item in items}
        elif self._attempts(items) > ATTEMPTS:
            return _table([b""] * len(items))
        elif not self._stopped:
            try:
                self._work(self._runner, items, rows)
            except Exception as error:  # noqa: BLE001 -- nothing of a recording's own: the place, or the disk
                for item in items:
                    rows.setdefault(item.index, failed_row(item, error))
        stopped = [Row.of(item, "stopped") for item in items if item.index not in rows]
        return _table([row.packed() for row in (*rows.values(), *stopped)])

    def _attempts(self, items: Sequence[Item]) -> int:
        """Return how often a worker has begun with a block: Ray gives one that kills its worker to others, for ever."""
        ray: Any = import_module("ray")
        key = f"{items[0].index}, {len(items)}"
        return int(ray.get(self._tally.begin.remote(key)))

    def _work(self, runner: Runner, items: Sequence[Item], rows: dict[int, Row]) -> None:
        job, place = self._task.job, self._task.place
        with place.opened([job.marker(item) for item in items]) as work, fetched(items) as payloads:
            ready: list[Ready] = []
            for item, payload in zip(items, payloads, strict=True):
                if isinstance(payload, Exception):
                    rows[item.index] = failed_row(item, payload)
                else:
                    ready.append(Ready(item=item, payload=payload))
            anyio.run(self._run, runner, ready, work, rows)

    async def _run(self, runner: Runner, ready: Sequence[Ready], work: Path, rows: dict[int, Row]) -> None:
        by_index = {each.item.index: each for each in ready}
        self._before = self._seconds
        with ungrouped():
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, group.cancel_scope)
                async with anyio.create_task_group() as sending:

                    def ended(row: Row) -> None:
                        sending.start_soon(self._keep, by_index[row.index], row, work, rows)

                    await runner(ready, work, self._heard, ended)
                group.cancel_scope.cancel()

    def _heard(self, seconds: float) -> None:
        self._seconds = self._before + seconds

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """Report now and then, and stop when the driver says so: nothing unfinished is left behind."""
        ray: Any = import_module("ray")
        while not self._stopped:
            await anyio.sleep(BETWEEN_REPORTS)
            report = partial(ray.get, self._tally.report.remote(self._id, self._seconds), timeout=PATIENCE)
            with contextlib.suppress(Exception):  # a report that is lost is made up for by the next
                self._stopped = bool(await anyio.to_thread.run_sync(report))
        scope.cancel()

    async def _keep(self, ready: Ready, row: Row, work: Path, rows: dict[int, Row]) -> None:
        """Have what was written at its place, and then the row."""
        item, job = ready.item, self._task.job
        if row.status == "done":
            try:
                files = await anyio.to_thread.run_sync(job.files, item, work)
                await anyio.to_thread.run_sync(self._task.place.publish, work, files)
            except Exception as error:  # noqa: BLE001 -- the other recordings must not suffer
                row = failed_row(item, error)
        rows[item.index] = _relabelled(row, item, ready.payload)


def _relabelled(row: Row, item: Item, payload: Any) -> Row:
    """Return a row whose error names the recording, and not its copy on this machine."""
    message, copied = str(row.error), False
    for file, own in zip(files_of(item.found.payload), files_of(payload), strict=True):
        if own.origin is not None and str(own.path) in message:
            message, copied = message.replace(str(own.path), file.origin or str(file.path)), True
    if not (copied and isinstance(row.error, DuplexError)):
        return row
    return attrs.evolve(row, error=type(row.error)(message))


def _table(packed: Sequence[bytes]) -> Any:
    arrow: Any = import_module("pyarrow")
    return arrow.table({"row": arrow.array(packed, arrow.binary())})
