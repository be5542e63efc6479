"""Makes what was ordered for a folder of training data, in as many processes as there are cores.

What an order makes depends on the order alone (but for the noise that one synthesizer draws for itself), so it does not
matter which process makes it, or when.
"""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol

from duplex.atomic import make_folder
from duplex.errors import OutputError
from duplex.training.data.dependencies import check

__all__ = ["Order", "build"]


class Order(Protocol):
    """One file that shall be made. Must be one that can be pickled."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """The modules and programs that must be installed."""
        ...

    @property
    def size(self) -> float:
        """About how many bytes it takes."""
        ...

    def make(self) -> None:
        """Make the file, whole or not at all."""
        ...


def build(
    orders: Sequence[Order], *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> int:
    """Make the files that are not there yet; return how many those were. ``progress`` gets done and all files.

    :raises OutputError: if the folder cannot be made or the disk has no room for all of them
    :raises MissingDependencyError: before anything is made, if something is not installed
    """
    missing = [order for order in orders if not order.path.exists()]
    check(*sorted({need for order in missing for need in order.needs}))
    for folder in {order.path.parent for order in orders}:
        make_folder(folder)
    _check_room(missing)
    done = len(orders) - len(missing)
    if progress:
        progress(done, len(orders))
    # A fresh interpreter for each worker: a copy of this one may hold locks of threads that are not copied with it.
    context = multiprocessing.get_context("spawn")
    count = max(1, min(len(missing), workers or os.cpu_count() or 1))
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        tasks = [pool.submit(_make, order) for order in missing]
        try:
            for task in as_completed(tasks):
                task.result()
                done += 1
                if progress:
                    progress(done, len(orders))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return len(missing)


def _make(order: Order) -> None:
    order.make()


def _check_room(orders: Sequence[Order]) -> None:
    if not orders:
        return
    folder = orders[0].path.parent
    need, free = sum(order.size for order in orders), shutil.disk_usage(folder).free
    if need > free:
        raise OutputError(
            f"{folder} has {free / 1e9:.1f} GB free, but the data takes {need / 1e9:.1f} GB; "
            "make room, choose another folder, or take less with --scale"
        )
