"""Many dialogues side by side, each in a worker process; none of them holds up another, or makes it fail."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_process
import anyio.to_thread
import attrs

from duplex.arguments import as_int
from duplex.atomic import clear_remains, make_folder
from duplex.errors import OutputError, UsageError
from duplex.measuring.one import measure_to_file, target_of
from duplex.measuring.settings import Settings
from duplex.measuring.source import Source, with_copies
from duplex.measuring.sources import find_dialogues
from duplex.measuring.tables import write_tables

__all__ = ["MeasureResult", "cores", "measure", "measure_side_by_side"]


@attrs.frozen(kw_only=True)
class MeasureResult:
    """What became of one dialogue; ``path`` is its JSON, and ``summary`` the row of it in the table of all.

    ``notes`` are remarks (a channel without speech), ``error`` says why it ``"failed"``.
    """

    source: Source
    path: Path
    status: Literal["done", "skipped", "failed"]
    summary: dict[str, Any] = attrs.field(factory=dict[str, Any])
    notes: list[str] = attrs.field(factory=list[str])
    error: Exception | None = None


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


async def measure(
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    settings: Settings | None = None,
    pair: tuple[str, str] | None = None,
    given_turns: bool = False,
    jobs: int | None = None,
    force: bool = False,
    progress: Callable[[MeasureResult], None] | None = None,
) -> list[MeasureResult]:
    """Measure dialogues; write a JSON for each and tables of all to ``out``, and return a result for each.

    What is finished is skipped. Worker processes import the main module: a script that calls this guards its own call
    with ``if __name__ == "__main__":``.

    :param inputs: recordings, folders, patterns, folders of results, manifests, turns; see :func:`find_dialogues`
    :param pair: patterns of the names of two mono files that are one dialogue, in place of the usual ones
    :param given_turns: takes the times of speech that a manifest has, in place of the detector's
    :param jobs: how many are measured side by side; one for each core, if left out
    :param force: measures also what is finished, and replaces measures of another recording
    :param progress: is told each result as it comes
    :raises UsageError: if no input is given, or an option is out of range
    :raises OutputError: if ``out`` cannot be made, or a table cannot be written
    """
    sources = await anyio.to_thread.run_sync(lambda: find_dialogues(inputs, out, pair=pair, given_turns=given_turns))
    return await measure_side_by_side(
        sources, Path(out), settings or Settings(), jobs=jobs, force=force, progress=progress
    )


async def measure_side_by_side(
    sources: Sequence[Source],
    out: Path,
    settings: Settings,
    *,
    jobs: int | None = None,
    force: bool = False,
    progress: Callable[[MeasureResult], None] | None = None,
) -> list[MeasureResult]:
    """Measure dialogues that :func:`find_dialogues` has found; the rest is as in :func:`measure`.

    :raises UsageError: if ``jobs`` is not positive
    :raises OutputError: if ``out`` cannot be made, or a table cannot be written
    """
    jobs = cores() if jobs is None else as_int("jobs", jobs)
    if jobs < 1:
        raise UsageError(f"jobs is {jobs}; give a number from 1 on")
    await anyio.to_thread.run_sync(make_folder, out)
    results: dict[int, MeasureResult] = {}
    limiter = anyio.CapacityLimiter(jobs)

    async def work(waiting: Iterator[tuple[int, Source]]) -> None:
        for index, source in waiting:
            results[index] = await _run(source, out, settings, force=force, limiter=limiter)
            if progress is not None:
                progress(results[index])

    with with_copies(sources) as ready:
        waiting = iter(enumerate(ready))  # shared, so that a long dialogue holds up nobody but its own worker
        async with anyio.create_task_group() as group:
            for _ in range(min(jobs, len(sources))):
                group.start_soon(work, waiting)
    ordered = [results[index] for index in range(len(sources))]
    if measured := [each.path for each in ordered if each.status != "failed"]:
        await anyio.to_thread.run_sync(write_tables, out, measured)
    return ordered


async def _run(
    source: Source, out: Path, settings: Settings, *, force: bool, limiter: anyio.CapacityLimiter
) -> MeasureResult:
    """Measure one dialogue; whatever goes wrong with it is its own."""
    path = target_of(source, out)
    work = partial(measure_to_file, source, out, settings, force=force)
    try:
        outcome = await anyio.to_process.run_sync(work, cancellable=True, limiter=limiter)
    except anyio.get_cancelled_exc_class():  # the process has been killed, in the middle of writing maybe
        clear_remains(path)
        raise
    except anyio.BrokenWorkerProcess:
        clear_remains(path)
        error = OutputError(
            f"{source.name} was not measured, as its process was ended from outside; "
            "run it again, with fewer --jobs if memory is short"
        )
        return MeasureResult(source=source, path=path, status="failed", error=error)
    except Exception as error:  # noqa: BLE001 -- the other dialogues must not suffer
        return MeasureResult(source=source, path=path, status="failed", error=error)
    status = "skipped" if outcome.skipped else "done"
    return MeasureResult(source=source, path=path, status=status, summary=outcome.summary, notes=outcome.notes)
