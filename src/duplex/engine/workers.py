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

from duplex.backends.shared.process import OwnProcess
from duplex.errors import ClosedError
from duplex.notifiers import threadsafe_call_soon

__all__ = ["Workers"]

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Schedule = Callable[[Callable[[], None]], object]


@attrs.define(eq=False)
class _Job:
    function: Callable[[Any], Any]
    argument: Any
    schedule: Schedule
    """Schedules a callback in the event loop of the task that waits."""
    done: anyio.Event = attrs.Factory(anyio.Event)
    result: Any = None
    error: Exception | None = None


class Workers:
    """A pool of ``threads`` threads for short jobs; event loops may share it.

    The threads run in a ``with`` block, or from :meth:`start` to :meth:`close`.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._count = threads
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._ready: dict[Schedule, list[_Job]] = {}
        """Finished jobs by event loop, for which a callback has been scheduled and has not run yet."""
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open = False
        self._process = OwnProcess()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the threads; also after :meth:`close`.

        :raises ForkError: in another process than the one that it was made in
        """
        self._process.check("what computes this")
        threads = [
            threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
            for number in range(self._count)
        ]
        with self._lock:
            self._open, self._threads = True, []
        try:
            for thread in threads:
                thread.start()
                self._threads.append(thread)
        except BaseException:  # the process may have no more threads
            self.close()
            raise

    def close(self, wait: float = 0.0) -> None:
        """Stop the threads when the submitted jobs are done; wait at most ``wait`` seconds for each thread."""
        if self._process.forked:  # its lock may be held for ever
            return
        with self._lock:
            self._open = False
            ending, self._threads = self._threads, []
            for _ in ending:
                self._jobs.put(None)
        for thread in ending:
            if thread is not threading.current_thread():
                thread.join(wait)

    async def run(self, function: Callable[[Argument], Result], argument: Argument) -> Result:
        """Return ``function(argument)``, computed in a thread.

        :raises ClosedError: if the threads do not run
        :raises ForkError: in another process than the one that it was made in
        """
        self._process.check("what computes this")
        job = _Job(function, argument, threadsafe_call_soon())
        with self._lock:
            if not self._open:
                raise ClosedError("what computes this has been closed; load the model again")
            self._jobs.put(job)
        await job.done.wait()
        if job.error is not None:
            raise job.error
        return cast("Result", job.result)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job.result = job.function(job.argument)
            except Exception as error:  # noqa: BLE001 -- raised to whoever awaits it
                job.error = error
            self._finish(job)
            del job  # so that its argument is not kept alive while this thread waits for the next

    def _finish(self, job: _Job) -> None:
        with self._lock:
            waiting = self._ready.get(job.schedule)
            if waiting is not None:
                waiting.append(job)
                return
            self._ready[job.schedule] = [job]
        try:
            job.schedule(partial(self._set_done, job.schedule))
        except RuntimeError:  # the loop has ended, and with it the task that waited
            with self._lock:
                self._ready.pop(job.schedule, None)

    def _set_done(self, schedule: Schedule) -> None:
        with self._lock:
            ready = self._ready.pop(schedule, [])
        for job in ready:
            job.done.set()
