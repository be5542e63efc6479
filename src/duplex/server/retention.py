"""How long recordings are kept: a sweep every few minutes, of what is too old and of what is too much."""

import logging
import time
from pathlib import Path

import anyio
import anyio.to_thread

from duplex.errors import DuplexError
from duplex.server.metrics import Metrics
from duplex.server.recordings import Deleted, delete_all, expired, recordings_in

__all__ = ["Retention"]

log: logging.Logger = logging.getLogger(__name__)

SWEEP_SECONDS = 300.0
"""Between two looks at the folder."""


class Retention:
    """Keeps a folder within its limits; of 0 there is none."""

    def __init__(self, folder: Path | None, metrics: Metrics, *, days: float, gigabytes: float) -> None:
        self._folder = folder
        self._metrics = metrics
        self._days = days
        self._gigabytes = gigabytes

    async def run(self) -> None:
        """Sweep for ever; a disk that refuses is told in the log, and tried again."""
        if self._folder is None:
            return
        while True:
            try:
                await anyio.to_thread.run_sync(self.sweep, self._folder, abandon_on_cancel=True)
            except DuplexError as error:
                log.error("recordings are not kept within their limits: %s", error)  # noqa: TRY400 -- one line says it
            await anyio.sleep(SWEEP_SECONDS)

    def sweep(self, folder: Path) -> None:
        """Delete what is too old or too much, and count what is left.

        :raises UsageError: if the folder cannot be read
        :raises OutputError: if something cannot be deleted; all else has been, and what is left is counted
        """
        there, now = recordings_in(folder), time.time()
        chosen = expired(there, now, days=self._days, gigabytes=self._gigabytes)
        try:
            for _, reason in delete_all((each, Deleted(why=why, by="retention")) for each, why in chosen):
                self._metrics.deleted_recordings.labels(reason.why).inc()
        finally:
            self._count(folder)

    def _count(self, folder: Path) -> None:
        left = recordings_in(folder)
        self._metrics.recordings.set(len(left))
        self._metrics.recordings_bytes.set(sum(each.size for each in left))
