"""Work of the inference thread beside its steps: to open, restore or export a slot, to score."""

import threading
from collections import deque

from duplex.engine.seat import Job
from duplex.engine.watchdog import Watchdog

__all__ = ["Jobs"]


class Jobs:
    """Jobs that take turns, a piece each between two steps. ``changed`` is the engine's lock."""

    def __init__(self, changed: threading.Condition, watchdog: Watchdog) -> None:
        self._changed = changed
        self._watchdog = watchdog
        self._waiting: deque[Job] = deque()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._waiting)

    def add(self, job: Job) -> None:
        """Let a job wait for its turn (with the lock held)."""
        self._waiting.append(job)
        self._changed.notify()

    def clear(self) -> None:
        """Forget all (with the lock held)."""
        self._waiting.clear()

    def advance(self) -> None:
        """Advance the job whose turn it is by one piece; unless it is done, it waits behind the others."""
        with self._changed:
            if not self._waiting:
                return
            job = self._waiting.popleft()
        if self._watchdog.watch(lambda: next(job, self) is not self, counts=False):
            with self._changed:
                self._waiting.append(job)
