"""How many connections each front has, in memory that all of them see: who has more leaves the next one to others."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ABSENT", "Crowd"]

ABSENT = 1 << 40
"""The count of a front that does not run: nobody leaves a connection to it."""


class Crowd:
    """The counts of all fronts of a server, int64 in a shared buffer; each front writes its own."""

    def __init__(self, memory: Any, fronts: int) -> None:
        self._counts: NDArray[np.int64] = np.frombuffer(memory, np.int64, fronts)

    def note(self, front: int, connections: int) -> None:
        """Note how many a front has."""
        self._counts[front] = connections

    def busiest(self, front: int) -> bool:
        """Tell whether another front has fewer than this one."""
        return bool(self._counts[front] > self._counts.min())
