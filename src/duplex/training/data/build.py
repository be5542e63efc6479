"""Builds the files of a data set in parallel, in as many processes as there are cores.

A file depends on its job alone (except for the noise that one synthesizer draws by itself), so it does not matter which
process makes it, or when.
"""

import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol

from duplex.atomic import make_folder
from duplex.errors import OutputError
from duplex.training.data.dependencies import require_installed

__all__ = ["Job", "build"]


class Job(Protocol):
    """A file to be made. Must be picklable."""

    @property
    def path(self) -> Path:
        """The file to write."""
        ...

    @property
    def requirements(self) -> tuple[str, ...]:
        """The modules and programs that must be installed."""
        ...

    @property
    def size(self) -> float:
        """The approximate size in bytes."""
        ...

    def make(self) -> None:
        """Write the file atomically."""
        ...


def build(
    jobs: Sequence[Job], *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> int:
    """Make the files that do not exist yet; return their number. ``progress`` gets the number done and the total.

    :raises OutputError: if the folder cannot be created or the disk has not enough space for all files
    :raises MissingDependencyError: before anything is made, if a requirement is not installed
    """
    missing = [job for job in jobs if not job.path.exists()]
    require_installed(*sorted({need for job in missing for need in job.requirements}))
    for folder in {job.path.parent for job in jobs}:
        make_folder(folder)
    _check_room(missing)
    done = len(jobs) - len(missing)
    if progress:
        progress(done, len(jobs))
    # Spawned, not forked: a fork may hold locks of threads that do not exist in it.
    context = multiprocessing.get_context("spawn")
    count = max(1, min(len(missing), workers or os.cpu_count() or 1))
    with ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent) as pool:
        tasks = [pool.submit(_make, job) for job in missing]
        try:
            for task in as_completed(tasks):
                task.result()
                done += 1
                if progress:
                    progress(done, len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return len(missing)


def _end_with_parent() -> None:
    """End this process as soon as the one that it works for is gone: killed, that tells nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 -- it is a worker

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _make(job: Job) -> None:
    job.make()


def _check_room(jobs: Sequence[Job]) -> None:
    if not jobs:
        return
    folder = jobs[0].path.parent
    need, free = sum(job.size for job in jobs), shutil.disk_usage(folder).free
    if need > free:
        raise OutputError(
            f"{folder} has {free / 1e9:.1f} GB free, but the data takes {need / 1e9:.1f} GB; "
            "make room, choose another folder, or take less with --scale"
        )
