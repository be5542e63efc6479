"""A run on a cluster, from the inputs to the table: :func:`run`.

1. Inputs are found; shards are listed on the cluster.
2. A look around where a worker would run: whether there is room, the same version, the same folder, the device.
3. What has results already is compared with them, by tasks that need no model. A finished recording is a row.
4. The rest goes to actors that hold the model: long recordings first, in blocks of as many as they have in hand.
5. What has no row then, since a worker died of it or beside it, goes to a worker on its own, once.
6. The table of all recordings is written, and replaces that of the run before.
"""

import contextlib
import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from duplex.arguments import as_float
from duplex.cluster.batch.inputs import Given, far_of, split
from duplex.cluster.batch.items import Item
from duplex.cluster.batch.job import Job, PassedOver
from duplex.cluster.batch.places import Place, place_of
from duplex.cluster.batch.room import check_room, share_of
from duplex.cluster.batch.rows import TABLE, Row, write_table
from duplex.cluster.batch.shards import Member, is_shard, list_shard
from duplex.cluster.batch.stages import Stages
from duplex.cluster.batch.worker import Task
from duplex.cluster.connection import check_address, connected, require_ray
from duplex.errors import DuplexError, UsageError

__all__ = ["BatchProgress", "BatchResult", "Cluster", "run"]

LONGEST_WAIT = 86400.0


def _check_workers(_: object, field: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not value > 0:
        raise UsageError(f"{field.name} is {value}; give a number above 0, or leave it out")


def _check_wait(_: object, __: object, value: float) -> None:
    if not 0 <= value <= LONGEST_WAIT:
        raise UsageError(f"wait is {value:g}; give seconds from 0 to {LONGEST_WAIT:g}")


@attrs.frozen(kw_only=True)
class Cluster:
    """Which Ray cluster does the work, and how much of it.

    ``address`` is ``"local"`` (this machine, reached on its loopback address only), ``"auto"`` or ``"HOST:PORT"``.
    ``workers`` is how many there are at most; as many as fit, if left out. A worker takes a GPU and a core, or
    ``worker_cpus`` cores. ``wait`` is for how many seconds there may be no room. ``verbose`` lets Ray write what it
    writes.

    :raises UsageError: if one is out of range
    """

    address: str = "local"
    workers: int | None = attrs.field(default=None, validator=_check_workers)
    worker_cpus: float | None = attrs.field(default=None, validator=_check_workers)
    wait: float = attrs.field(default=60.0, converter=lambda value: as_float("wait", value), validator=_check_wait)
    verbose: bool = False


@attrs.frozen(kw_only=True)
class BatchProgress:
    """How far a run is: recordings that have a row, of how many, and seconds of audio heard; ``row`` is a new one."""

    done: int
    total: int
    seconds: float
    row: Row | None = None


@attrs.frozen(kw_only=True)
class BatchResult:
    """How many recordings came out how, and where the table of all is."""

    done: int
    skipped: int
    failed: int
    table: str


Report: TypeAlias = Callable[[BatchProgress], None]


def run(
    job: Job,
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    cluster: Cluster | None = None,
    progress: Report | None = None,
    passed_over: PassedOver | None = None,
) -> BatchResult:
    """Do a job on a Ray cluster: each recording once, whatever a run before this one has come to. Blocking.

    ``out`` is a folder that the cluster's machines share, or an address in an object store. Results are those that the
    job has without a cluster, and ``results.parquet`` beside them has a row for each recording, failed ones with the
    error. What is finished is not done again. Ctrl-C (:class:`KeyboardInterrupt`) keeps what is finished, and nothing
    of the rest.

    :param inputs: files, folders, patterns, manifests, shards of WebDataset, and addresses of files, folders, shards
    :param progress: is told each row as it comes, and how far the run is about twice a second
    :param passed_over: is told each file that was found and is no recording by its suffix
    :raises UsageError: if there is nothing to do, or an argument is out of range
    :raises MissingDependencyError: if Ray is not installed, or too old
    :raises ClusterError: if the cluster is out of reach, has no room, or cannot do the work
    :raises OutputError: if ``out`` cannot be written
    """
    chosen = cluster or Cluster()
    check_address(chosen.address)
    require_ray()
    place = place_of(os.fspath(out))
    given = split(os.fspath(each) for each in inputs)
    with connected(chosen.address, verbose=chosen.verbose):
        items = _items(job, given, os.fspath(out), _without_shards(passed_over))
        task, share = Task(job=job, place=place, folder=str(Path.cwd())), share_of(job, chosen.worker_cpus)
        sign = place.prepare()
        try:
            task = attrs.evolve(task, job=check_room(task, share, sign, chosen.wait))
        finally:
            if sign is not None:
                place.forget(sign)
        report = _Reporter(len(items), place, progress)
        rows = Stages(task, share, chosen.workers, report).rows(items)
        _write(place, rows, job)
    counts = {status: sum(row.status == status for row in rows) for status in ("done", "skipped", "failed")}
    return BatchResult(**counts, table=f"{place.shown}/{TABLE}")


class _Reporter:
    """Counts rows, and tells of them with the place of their results."""

    def __init__(self, total: int, place: Place, progress: Report | None) -> None:
        self._total, self._place, self._progress = total, place, progress
        self._done = 0

    def __call__(self, row: Row | None, seconds: float) -> None:
        self._done += row is not None
        if self._progress is not None:
            told = None if row is None else _located(row, self._place)
            self._progress(BatchProgress(done=self._done, total=self._total, seconds=seconds, row=told))


def _located(row: Row, place: Place) -> Row:
    return row if row.status == "failed" else attrs.evolve(row, results=f"{place.shown}/{row.results}")


def _items(job: Job, given: Given, out: str, passed_over: PassedOver | None) -> list[Item]:
    listed = _listed([address for address, _ in given.shards])
    found = job.find(given.local, far_of(given, listed), out, passed_over)
    return [Item(index=index, name=each.payload.name.as_posix(), found=each) for index, each in enumerate(found)]


def _listed(shards: Sequence[str]) -> list[Sequence[Member] | DuplexError]:
    """Return the members of each shard, which are listed on the cluster, as many side by side as there are cores."""
    if not shards:
        return []
    ray: Any = import_module("ray")
    remote, folder = ray.remote(num_cpus=1)(_list_one), str(Path.cwd())
    answers = ray.get([remote.remote(address, folder) for address in shards])
    return [pickle.loads(packed) for packed in answers]  # noqa: S301 -- of this job's own tasks


def _list_one(address: str, folder: str) -> bytes:
    """Return the members of a shard, or what is wrong with it, as bytes; it runs on the cluster."""
    with contextlib.suppress(OSError):  # the driver's folder, for paths that are relative to it
        os.chdir(folder)
    try:
        return pickle.dumps(list_shard(address))
    except DuplexError as error:
        return pickle.dumps(error)


def _without_shards(passed_over: PassedOver | None) -> PassedOver | None:
    """Leave out the shards of a folder, which are not passed over here."""
    return None if passed_over is None else lambda path: None if is_shard(path.name) else passed_over(path)


def _write(place: Place, rows: Sequence[Row], job: Job) -> None:
    job.finish(place, rows)
    with place.opened([]) as work:
        write_table(work / TABLE, [_located(row, place) for row in rows], job.figures)
        place.publish(work, [TABLE])
