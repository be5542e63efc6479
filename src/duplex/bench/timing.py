"""Timing of calls, summarized as percentiles."""

import time
from collections.abc import Callable, Sequence

import attrs
import numpy as np

__all__ = ["Percentiles", "time_call"]


@attrs.frozen
class Percentiles:
    """The median, the 95th and the 99th percentile, in milliseconds."""

    median: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Percentiles":
        """Return the percentiles of a non-empty list of seconds."""
        return cls(*(round(1e3 * float(np.percentile(seconds, part)), 3) for part in (50, 95, 99)))

    def as_json(self) -> dict[str, float]:
        """Return ``{"median": ..., "p95": ..., "p99": ...}``."""
        return attrs.asdict(self)


def time_call(compute: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    start = time.perf_counter()
    compute()
    return time.perf_counter() - start
