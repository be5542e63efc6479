"""The stages of a run as data sets of Ray Data: the look, the work, and what is left of it."""

import math
import pickle
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

from duplex.cluster.batch.flow import Flow
from duplex.cluster.batch.items import Item
from duplex.cluster.batch.room import workers_for
from duplex.cluster.batch.rows import Row, failed_row
from duplex.cluster.batch.tally import start_tally
from duplex.cluster.batch.worker import BatchWorker, Task, look_at
from duplex.cluster.connection import reason
from duplex.cluster.room import Share
from duplex.errors import ClusterError, DuplexError

__all__ = ["Stages"]

LOOKED_AT = 200
"""Recordings a task looks at: each is a small read, or the hash of a file."""
BLOCKS_EACH = 4
"""Blocks a worker has at least, where there is enough to do: so that none waits long for the others at the end."""
LARGEST_BLOCK = 4
"""In recordings for each place of the model."""
GRACE = 10.0
"""Seconds that workers have to stop in."""
Report: TypeAlias = Callable[[Row | None, float], None]


class Stages:
    """Takes items to rows.

    :param workers: how many were asked for, ``None`` for all that fit
    :param report: is told each row, and ``None`` now and then, with the seconds heard so far
    """

    def __init__(self, task: Task, share: Share, workers: int | None, report: Report) -> None:
        self._task, self._share, self._wanted, self._report = task, share, workers, report
        self._tally: Any = start_tally()

    def rows(self, items: Sequence[Item]) -> list[Row]:
        """Return a row for each item; one that no worker survives has failed.

        :raises ClusterError: if the cluster fails, or all workers do
        :raises DuplexError: if something fails that no other recording would fare better with
        """
        finished = self._looked_at(items)
        seen = {row.index for row in finished}
        left = sorted((item for item in items if item.index not in seen), key=lambda item: -item.size)
        done = self._worked(left)
        if left and not done:
            raise ClusterError(
                "every worker died before its first recording was done, as those do that run out of memory; try "
                "--workers 1, or less at a time with --sessions"
            )
        seen |= {row.index for row in done}
        again = [item for item in left if item.index not in seen]
        last = self._worked(again, alone=True)
        seen |= {row.index for row in last}
        lost = [self._lost(item) for item in again if item.index not in seen]
        return [*finished, *done, *last, *lost]

    def _looked_at(self, items: Sequence[Item]) -> list[Row]:
        """Return the rows of what is finished."""
        if not self._task.job.looks:
            return []
        blocks = _blocks(items, min(LOOKED_AT, max(1, math.ceil(len(items) / BLOCKS_EACH))))
        return self._followed(blocks.map_batches(partial(look_at, task=self._task), batch_size=None, **_FORMAT))

    def _worked(self, items: Sequence[Item], *, alone: bool = False) -> list[Row]:
        """Return the rows that workers give; ``alone`` gives each a recording at a time."""
        if not items:
            return []
        ray_data: Any = import_module("ray.data")
        places = self._task.job.side_by_side
        workers = workers_for(self._share, self._wanted, math.ceil(len(items) / (1 if alone else places)))
        size = 1 if alone else _block_size(len(items), workers, places)
        return self._followed(
            _blocks(items, size).map_batches(
                BatchWorker,
                fn_constructor_args=(self._task, self._tally),
                batch_size=size,
                num_cpus=self._share.cpus,
                num_gpus=self._share.gpus,
                compute=ray_data.ActorPoolStrategy(min_size=1, max_size=workers, max_tasks_in_flight_per_actor=2),
                **_FORMAT,
            )
        )

    def _followed(self, dataset: Any) -> list[Row]:
        """Return the rows of a data set as they come; at Ctrl-C have the workers stop first."""
        dataset.context.enable_progress_bars = False
        dataset.context.max_errored_blocks = -1  # what is missing is done again, or told
        flow = Flow(dataset)
        rows: list[Row] = []
        try:
            for block in flow.rows():
                self._take(block, rows)
        except KeyboardInterrupt:
            self._tally.stop.remote()
            deadline = time.monotonic() + GRACE
            for _ in flow.rows():
                if time.monotonic() > deadline:
                    break
            raise
        except DuplexError:
            raise
        except Exception as error:
            raise ClusterError(
                f"the cluster failed ({reason(error)}); run it again to go on with what is left"
            ) from error
        return rows

    def _take(self, block: Sequence[Row | None], rows: list[Row]) -> None:
        ray: Any = import_module("ray")
        seconds = float(ray.get(self._tally.seconds.remote()))
        for row in block:
            if row is None:
                continue
            if row.fatal and row.error is not None:
                raise row.error
            rows.append(row)
            self._report(row, seconds)
        self._report(None, seconds)

    def _lost(self, item: Item) -> Row:
        error = ClusterError(
            f"{item.label} was not done, as its workers died of it, beside others and alone; memory may be short"
        )
        row = failed_row(item, error)
        self._report(row, 0.0)
        return row


_FORMAT = {"batch_format": "pyarrow", "zero_copy_batch": True}


def _blocks(items: Sequence[Item], size: int) -> Any:
    """Return a data set of items as bytes, so many a block."""
    arrow: Any = import_module("pyarrow")
    ray_data: Any = import_module("ray.data")
    packed = [pickle.dumps(item) for item in items]
    tables = [
        arrow.table({"item": arrow.array(packed[start : start + size], arrow.binary())})
        for start in range(0, len(packed), size)
    ]
    return ray_data.from_arrow(tables)


def _block_size(count: int, workers: int, places: int) -> int:
    """Return how many recordings a worker is given at a time: enough for all places, and not all there are."""
    even = math.ceil(count / workers)
    return min(even, max(places, min(LARGEST_BLOCK * places, math.ceil(count / (BLOCKS_EACH * workers)))))
