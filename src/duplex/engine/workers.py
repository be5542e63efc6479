"""Threads that compute for tasks of event loops.

A job costs a fraction of a millisecond, and with many conversations there are thousands a second: so jobs go to the
threads straight away, however busy the loop is, and what has become ready is handed back all at once.
"""

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import anyio
import attrs

from duplex.engine.wakeup import into_this_loop
from duplex.errors import ClosedError

__all__ = ["Workers"]

Given = TypeVar("Given")
Made = TypeVar("Made")
Schedule = Callable[[Callable[[], None]], object]


@attrs.define(eq=False)
class _Job:
    code: Callable[[Any], Any]
    given: Any
    schedule: Schedule
    """Of the event loop that waits."""
    done: anyio.Event = attrs.Factory(anyio.Event)
    made: Any = None
    error: Exception | None = None


class Workers:
    """So many threads, one of which does each job; event loops may share them.

    They run in a ``with`` block, or from :meth:`start` to :meth:`close`.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._count = threads
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._ready: dict[Schedule, list[_Job]] = {}
        """What loops have been asked to fetch and have not fetched yet."""
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begin, also again."""
        threads = [
            threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
            for number in range(self._count)
        ]
        with self._lock:
            self._open, self._threads = True, threads
        for thread in threads:
            thread.start()

    def close(self, wait: float = 0.0) -> None:
        """Let the threads end once the jobs that were given are done; wait for each at most so many seconds."""
        with self._lock:
            self._open = False
            ending, self._threads = self._threads, []
            for _ in ending:
                self._jobs.put(None)
        for thread in ending:
            if thread is not threading.current_thread():
                thread.join(wait)

    async def run(self, code: Callable[[Given], Made], given: Given) -> Made:
        """Return ``code(given)``, computed in a thread.

        :raises ClosedError: if they do not run
        """
        job = _Job(code, given, into_this_loop())
        with self._lock:
            if not self._open:
                raise ClosedError("what computes this has been closed; load the model again")
            self._jobs.put(job)
        await job.done.wait()
        if job.error is not None:
            raise job.error
        return cast("Made", job.made)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job.made = job.code(job.given)
            except Exception as error:  # noqa: BLE001 -- raised where it was asked for
                job.error = error
            self._finish(job)
            del job  # while the next is waited for, nobody keeps what this one held

    def _finish(self, job: _Job) -> None:
        with self._lock:
            waiting = self._ready.get(job.schedule)
            if waiting is not None:
                waiting.append(job)
                return
            self._ready[job.schedule] = [job]
        try:
            job.schedule(partial(self._hand_back, job.schedule))
        except RuntimeError:  # the loop is over, and with it whoever waited
            with self._lock:
                self._ready.pop(job.schedule, None)

    def _hand_back(self, schedule: Schedule) -> None:
        with self._lock:
            ready = self._ready.pop(schedule, [])
        for job in ready:
            job.done.set()
