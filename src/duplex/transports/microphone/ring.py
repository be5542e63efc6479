"""Bounded rings between one thread that writes and one that reads: what audio callbacks copy into and out of.

1. The writer alone moves ``written``, the reader alone moves ``taken``; both only grow, so no lock is needed.
2. What does not fit is not written, and counted; what is not there is not read.
3. Nothing here allocates memory in proportion to the audio, waits, or calls anything that might.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ring", "TimedRing"]

Float32 = NDArray[np.float32]


class Ring:
    """Samples of float32 ``[capacity, channels]``."""

    def __init__(self, capacity: int, channels: int) -> None:
        self._samples = np.zeros((capacity, channels), np.float32)
        self.written: int = 0
        self.taken: int = 0
        self.lost: int = 0
        """Samples that found no room."""
        self.missed: int = 0
        """Samples that were to be read, and were not there."""

    @property
    def filled(self) -> int:
        """Samples that wait."""
        return self.written - self.taken

    @property
    def free(self) -> int:
        """Samples for which there is room."""
        return len(self._samples) - self.filled

    def skip_to(self, position: int) -> None:
        """Pass over what was written before a position, if it has not been taken."""
        self.taken = max(self.taken, position)

    def write(self, block: Float32) -> int:
        """Copy float32 ``[samples, channels]`` in; return how many samples there was room for."""
        count = min(len(block), self.free)
        start = self.written % len(self._samples)
        first = min(count, len(self._samples) - start)
        self._samples[start : start + first] = block[:first]
        self._samples[: count - first] = block[first:count]
        self.written += count
        self.lost += len(block) - count
        return count

    def read_into(self, block: Float32) -> int:
        """Copy samples out, into float32 ``[samples, channels]``; return how many there were."""
        count = min(len(block), self.filled)
        start = self.taken % len(self._samples)
        first = min(count, len(self._samples) - start)
        block[:first] = self._samples[start : start + first]
        block[first:count] = self._samples[: count - first]
        self.taken += count
        self.missed += len(block) - count
        return count


class TimedRing(Ring):
    """A ring whose blocks have times: of each, when its first sample was or will be heard, in monotonic seconds."""

    def __init__(self, capacity: int, channels: int) -> None:
        super().__init__(capacity, channels)
        self._marks: deque[tuple[int, int, float]] = deque(maxlen=4096)

    def write_at(self, block: Float32, time: float) -> None:
        """Copy a block in, with its time."""
        start = self.written
        count = self.write(block)
        if count:
            self._marks.append((start, count, time))

    def take(self) -> list[tuple[Float32, float]]:
        """Return the blocks that wait, float32 ``[samples, channels]`` with their times, cut from one fresh array."""
        marks = [self._marks.popleft() for _ in range(len(self._marks))]
        if not marks:
            return []
        first = marks[0][0]
        self.skip_to(first)  # marks that were pushed out had samples, which are passed over
        whole = np.empty((marks[-1][0] + marks[-1][1] - first, self._samples.shape[1]), np.float32)
        self.read_into(whole)
        return [(whole[start - first : start - first + count], time) for start, count, time in marks]
