"""Tells when the model has stopped answering: a step that takes many times as long as steps usually take.

A GPU that hangs raises nothing: the call into it never returns. A thread of its own looks every second, so that
conversations end with an error, and a server says that it is not ready.
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["StepDeadline", "Watchdog"]

Result = TypeVar("Result")
TICK_SECONDS = 1.0


class StepDeadline:
    """How long the present step has been running, and how long it may: a state machine without a clock of its own.

    Times are seconds on any clock that does not go back. The time between two observations counts at most twice
    :data:`TICK_SECONDS`: while the process was stopped or the machine suspended, nobody observed, and no step ran.
    """

    FLOOR = 10.0
    """Seconds that every step may take, however short steps usually are."""
    MULTIPLE = 20.0
    """Of the usual duration of a step, that a step may take."""
    WARM_UP = 600.0
    """Seconds that steps may take until one has ended: the first compiles kernels and reads weights."""
    _SMOOTHING = 0.1

    def __init__(self) -> None:
        self.usual: float | None = None
        """Seconds that a step usually takes: a moving average; ``None`` before the first has ended."""
        self._began: float | None = None
        self._observed = 0.0
        self._running = 0.0

    @property
    def limit(self) -> float:
        """Seconds that a step may take."""
        return self.WARM_UP if self.usual is None else max(self.FLOOR, self.MULTIPLE * self.usual)

    def begin(self, now: float) -> None:
        """Note that a step begins."""
        self._running, self._observed = 0.0, now
        self._began = now

    def end(self, now: float, *, counts: bool = True) -> None:
        """Note that it has ended; its duration ``counts`` for the usual one unless it was work of another kind."""
        began, self._began = self._began, None
        if counts and began is not None:
            taken = min(now - began, self.limit)
            self.usual = taken if self.usual is None else self.usual + self._SMOOTHING * (taken - self.usual)

    def observe(self, now: float) -> float:
        """Return how many seconds the present step has been running, 0 without one."""
        if self._began is None:
            return 0.0
        self._running += min(now - self._observed, 2 * TICK_SECONDS)
        self._observed = now
        return self._running


class Watchdog:
    """Watches the steps of one inference thread from a thread of its own, until :meth:`stop`.

    ``stalled`` is called every second while a step is past its deadline, with the seconds that it has been running.
    """

    def __init__(self, stalled: Callable[[float], None]) -> None:
        self.deadline: StepDeadline = StepDeadline()
        self._stalled = stalled
        self._running = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="duplex-watchdog", daemon=True)
        self._thread.start()

    @property
    def late(self) -> bool:
        """Whether the present step has used up half of its time: nobody new should be let in."""
        return self._running > self.deadline.limit / 2

    @property
    def overdue(self) -> bool:
        """Whether the present step is past its deadline."""
        return self._running > self.deadline.limit

    def watch(self, work: Callable[[], Result], *, counts: bool = True) -> Result:
        """Return what the work of the inference thread returns; see :meth:`StepDeadline.end` for ``counts``."""
        with self._lock:
            self.deadline.begin(time.monotonic())
        try:
            return work()
        finally:
            with self._lock:
                self.deadline.end(time.monotonic(), counts=counts)
                self._running = 0.0

    def stop(self) -> None:
        """Begin to end the thread."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until the thread has ended, unless it is this one, or is telling of a stall."""
        if threading.current_thread() is not self._thread:
            self._thread.join(TICK_SECONDS)

    def _watch(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            with self._lock:
                self._running = self.deadline.observe(time.monotonic())
            if self.overdue:
                self._stalled(self._running)
