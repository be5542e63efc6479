"""Times as a median and the two percentiles that matter to whoever listens."""

import time
from collections.abc import Callable, Sequence

import attrs
import numpy as np

__all__ = ["Times", "timed"]


@attrs.frozen
class Times:
    """Milliseconds: the median, and what 95 and 99 of a hundred do not pass."""

    median: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        """Sum up measured seconds, of which there is at least one."""
        return cls(*(round(1e3 * float(np.percentile(seconds, part)), 3) for part in (50, 95, 99)))

    def as_json(self) -> dict[str, float]:
        """Return ``{"median": ..., "p95": ..., "p99": ...}``."""
        return attrs.asdict(self)


def timed(compute: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    compute()
    return time.perf_counter() - start
