"""Threads that code the audio of all calls, beside the event loop.

A job costs a fraction of a millisecond, and with many calls there are thousands a second: so jobs go to the threads
straight away, however busy the loop is, and what has become ready is handed back all at once.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import anyio
import attrs

from duplex.wakeup import into_this_loop

__all__ = ["Coder"]

Given = TypeVar("Given")
Made = TypeVar("Made")


@attrs.define(eq=False)
class _Job:
    code: Callable[[Any], Any]
    given: Any
    done: anyio.Event
    made: Any = None
    error: Exception | None = None


class Coder:
    """As many threads as there are cores, in a ``with`` block, for the event loop that enters it."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._ready: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._asked = False
        """Whether the loop has been asked to fetch what is ready, and has not come yet."""
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._schedule = into_this_loop()
        for number in range(os.cpu_count() or 1):
            thread = threading.Thread(target=self._work, name=f"duplex-coding-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    async def run(self, code: Callable[[Given], Made], given: Given) -> Made:
        """Return ``code(given)``, computed in a thread."""
        job = _Job(code, given, anyio.Event())
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
            with self._lock:
                self._ready.append(job)
                first, self._asked = not self._asked, True
            if first:
                with contextlib.suppress(RuntimeError):  # the loop is over, and with it whoever waited
                    self._schedule(self._hand_back)

    def _hand_back(self) -> None:
        with self._lock:
            ready, self._ready = self._ready, deque()
            self._asked = False
        for job in ready:
            job.done.set()
