"""Where replicas tell how they are, and learn of the others: an actor, of which there is one for each ingress.

It is nothing but what was told last. When it is started anew, the next reports fill it again; its secret is one of the
arguments that Ray starts it with.
"""

import time
from collections.abc import Callable

from duplex.cluster.serving.placing import STALE_SECONDS, Report, Standing

__all__ = ["Registry"]

FORGOTTEN_SECONDS = 10 * STALE_SECONDS


class Registry:
    """Keeps the last report of each replica; ``clock`` tells seconds."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._secret = secret
        self._clock = clock
        self._reports: dict[str, tuple[float, Report]] = {}
        self._grace: float | None = None

    def secret(self) -> bytes:
        """Return what tickets are signed with."""
        return self._secret

    def report(self, report: Report) -> Standing:
        """Take a replica's report; return what it has to know of the others."""
        now = self._clock()
        self._reports[report.name] = now, report
        self._reports = {name: told for name, told in self._reports.items() if now - told[0] < FORGOTTEN_SECONDS}
        ready = [
            other
            for at, other in self._reports.values()
            if other.name != report.name and other.state == "ready" and other.free > 0 and now - at < STALE_SECONDS
        ]
        ready.sort(key=lambda each: -each.free)
        # When all are to stop, a call that moved would be lost on its way.
        return Standing(others=tuple(each.url for each in ready) if self._grace is None else (), grace=self._grace)

    def reports(self) -> list[tuple[float, Report]]:
        """Return the last report of each replica, with how many seconds ago it came."""
        now = self._clock()
        return [(now - at, report) for at, report in self._reports.values()]

    def leave(self, name: str) -> None:
        """Forget a replica, which has ended."""
        self._reports.pop(name, None)

    def stop(self, grace: float | None) -> None:
        """Have all replicas that end do so within so many seconds; ``None``: as long as their calls take."""
        self._grace = grace
