"""``--ray``: what a command does with recordings on a cluster, and its options for any command."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import click

from duplex.cli.options import F
from duplex.cli.progress import TrainingBar
from duplex.cli.text import one_line, plain, report_error, tell_passed_over
from duplex.errors import UsageError
from duplex.parsing import parse_integer

if TYPE_CHECKING:
    from pathlib import Path

    from duplex.cluster.batch import BatchProgress, Row
    from duplex.cluster.batch.job import Job

__all__ = ["RayOptions", "ray_options", "replica_options", "run_on_ray"]

SECONDS_AN_HOUR = 3600
MOST_REPLICAS = 1000


@attrs.frozen(kw_only=True)
class RayOptions:
    """Which cluster, and how much of it."""

    address: str
    worker_cpus: float | None
    wait: float
    workers: int | None = None
    replicas: tuple[int, int] = (1, 1)


class _Bounds(click.ParamType[tuple[int, int]]):
    """The least and the most of something: ``2:8``, or ``4`` for both."""

    name = "bounds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return both."""
        least, colon, most = str(value).partition(":")
        try:
            bounds = parse_integer(least, 1, MOST_REPLICAS), parse_integer(most if colon else least, 1, MOST_REPLICAS)
        except ValueError:
            bounds = 1, 0
        if bounds[0] > bounds[1]:
            self.fail(f"{value!r} is not the least and the most, such as 2:8, from 1 to {MOST_REPLICAS}", param, ctx)
        return bounds


_WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), help="With --ray: models at most. Default: all that fit."
)
_REPLICAS = click.option(
    "--replicas", type=_Bounds(), metavar="MIN:MAX", help="With --ray: servers, as calls need them. Default: 1."
)
_SHARED = (
    click.option("--ray", metavar="ADDRESS", help="On a Ray cluster: local, auto, or its HOST:PORT."),
    click.option("--worker-cpus", type=click.FloatRange(min=0, min_open=True), help="With --ray: cores for each."),
    click.option("--ray-wait", type=click.FloatRange(0, 86400), metavar="SECONDS", help="For a full cluster; 60."),
)


def ray_options(command: F) -> F:
    """Add the options of what works on a cluster; the command gets ``on_ray``, ``None`` without ``--ray``."""
    return _with_ray(command, _WORKERS, "workers")


def replica_options(command: F) -> F:
    """Add the options of what serves on a cluster; the command gets ``on_ray``, ``None`` without ``--ray``."""
    return _with_ray(command, _REPLICAS, "replicas")


def _with_ray(command: F, number: Any, name: str) -> F:
    @functools.wraps(command)
    def gathering(**values: Any) -> Any:
        address, cpus, wait, count = (values.pop(each) for each in ("ray", "worker_cpus", "ray_wait", name))
        given = {f"--{name}": count, "--worker-cpus": cpus, "--ray-wait": wait}
        if address is None:
            alone = [option for option, value in given.items() if value is not None]
            if alone:
                raise UsageError(f"{alone[0]} is for a cluster; give --ray ADDRESS too, or leave it out")
            return command(on_ray=None, **values)
        from duplex.cluster.connection import check_address, require_ray  # noqa: PLC0415

        check_address(address)  # before anything is looked for, or downloaded
        require_ray()
        counted = {} if count is None else {name: count}
        options = RayOptions(address=address, worker_cpus=cpus, wait=60.0 if wait is None else wait, **counted)
        return command(on_ray=options, **values)

    decorated: Any = gathering
    for option in reversed((_SHARED[0], number, *_SHARED[1:])):
        decorated = option(decorated)
    return decorated


def run_on_ray(
    job: "Job", inputs: Sequence[str], out: str, options: RayOptions, lines: "Callable[[Row], Sequence[str]]", unit: str
) -> int:
    """Do a job on a cluster and tell of it; return the exit status.

    :param lines: gives what is said of a row, beside where its results are
    """
    from duplex.cluster.batch import Cluster, run  # noqa: PLC0415 -- `duplex --help` need not wait for it

    debug = bool(click.get_current_context().find_root().obj)
    cluster = Cluster(
        address=options.address,
        workers=options.workers,
        worker_cpus=options.worker_cpus,
        wait=options.wait,
        verbose=debug,
    )
    passed_over: list[Path] = []
    with TrainingBar(unit) as bar:

        def progress(news: "BatchProgress") -> None:
            if passed_over:
                tell_passed_over(passed_over)
                passed_over.clear()
            bar.update(news.done, news.total, f"{news.seconds / SECONDS_AN_HOUR:.2f} h heard")
            if news.row is not None:
                _tell(news.row, lines, debug=debug)

        result = run(job, inputs, out, cluster=cluster, progress=progress, passed_over=passed_over.append)
    counts = {"done": result.done, "skipped": result.skipped, "failed": result.failed}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    click.echo(plain(f"{told}; all are in {result.table}"), err=True)
    return 1 if result.failed else 0


def _tell(row: "Row", lines: "Callable[[Row], Sequence[str]]", *, debug: bool) -> None:
    if row.error is not None:
        report_error(row.error, debug=debug)
        return
    finished = " (finished before)" if row.status == "skipped" else ""
    click.echo(plain(f"{row.input} -> {row.results}{finished}"))
    for line in lines(row):
        click.echo(f"  {line}")
    for note in row.notes:
        click.echo(f"duplex: note: {plain(one_line(f'{row.input}: {note}'))}", err=True)
