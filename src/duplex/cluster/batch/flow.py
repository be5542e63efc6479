"""A data set of Ray Data as rows that come one after the other, while the caller stays free to look up.

Ray Data is read by a thread, so that Ctrl-C meets the caller between two rows, and not in the midst of Ray's own work.
"""

import pickle
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from duplex.cluster.batch.rows import Row

__all__ = ["Flow"]

MOMENT = 0.5
"""Seconds after which a caller is given a moment without a row."""


class Flow:
    """The rows of a data set. An error of Ray's is raised where its row would have come."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._blocks: queue.SimpleQueue[Sequence[bytes] | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="duplex-ray-data", daemon=True)
        self._thread.start()

    def rows(self) -> Iterator[list[Row | None]]:
        """Yield rows as they come; an empty list, when none has come for a moment. ``None`` are items without a row."""
        while True:
            try:
                block = self._blocks.get(timeout=MOMENT)
            except queue.Empty:
                yield []
                continue
            if block is None:
                return
            if isinstance(block, BaseException):
                raise block
            yield [pickle.loads(packed) if packed else None for packed in block]  # noqa: S301 -- the workers'

    def _read(self) -> None:
        try:
            for block in self._dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                self._blocks.put(block["row"].to_pylist())
        except BaseException as error:  # noqa: BLE001 -- it is the caller's
            self._blocks.put(error)
        else:
            self._blocks.put(None)
