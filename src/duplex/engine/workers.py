"""Threads that compute for tasks of event loops.

A job costs a fraction of a millisecond, and with many conversations there are thousands a second: so jobs go to the
threads straight away, however busy the loop is, and what has become ready is handed back all at once.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import attrs

from duplex.backends.shared.process import OwnProcess
from duplex.concurrency.notifiers import Inbox, Waiter, create_waiter, current_inbox, wake
from duplex.errors import ClosedError

__all__ = ["Workers"]

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@attrs.define(eq=False)
class _Job:
    function: Callable[[Any], Any]
    argument: Any
    inbox: Inbox
    """Of the event loop of the task that waits."""
    waiter: Waiter
    result: Any = None
    error: Exception | None = None

    def tell(self) -> None:
        """Wake the task that waits, in its event loop."""
        wake(self.waiter)


class Workers:
    """A pool of ``threads`` threads for short jobs; event loops may share it.

    The threads run in a ``with`` block, or from :meth:`start` to :meth:`close`.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._count = threads
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
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

    async def run(
        self, function: Callable[[Argument], Result], argument: Argument, inbox: Inbox | None = None
    ) -> Result:
        """Return ``function(argument)``, computed in a thread.

        ``inbox`` is that of the running event loop, for who asks so often that finding it takes too long.

        :raises ClosedError: if the threads do not run
        :raises ForkError: in another process than the one that it was made in
        """
        self._process.check("what computes this")
        job = _Job(function, argument, inbox or current_inbox(), create_waiter())
        with self._lock:
            if not self._open:
                raise ClosedError("what computes this has been closed; load the model again")
            self._jobs.put(job)
        await job.waiter
        if job.error is not None:
            raise job.error
        return cast("Result", job.result)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job.result = job.function(job.argument)
            except Exception as error:  # noqa: BLE001 -- raised to whoever awaits it
                job.error = error
            job.inbox.post(job.tell)
            del job  # so that its argument is not kept alive while this thread waits for the next
