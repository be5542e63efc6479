"""A ring of records in memory that two processes share: one writes, the other reads.

1. Records are numbered from 1. A record has whole numbers and samples of fixed size, and its own number as a *seal*,
   which is written last.
2. The writer tells the reader by a message how many there are (:mod:`duplex.server.fronts.bell`). The message goes
   through the kernel, so that whoever has it also sees what was written before, on every processor.
3. The reader notes in the ring how many it has taken; only their places are written again.
4. A record whose seal is not its number is a gap, and ends the ring: :class:`RingError`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["RingError", "RingReader", "RingShape", "RingWriter"]

Float32 = NDArray[np.float32]
_HEAD = 64
"""Bytes before the records: the count that the reader notes has a cache line of its own."""


class RingError(Exception):
    """A record is not where it has to be; nothing that is read from this ring can be trusted."""


@attrs.frozen
class RingShape:
    """A ring of ``records``, each of so many whole ``numbers`` (int64) and ``samples`` (float32)."""

    records: int
    numbers: int
    samples: int

    @property
    def size(self) -> int:
        """Bytes, a multiple of 64."""
        return _HEAD + _rounded(self.records * (8 + 8 * self.numbers + 4 * self.samples))


class _Ring:
    """What writer and reader see of the memory."""

    def __init__(self, memory: Any, offset: int, shape: RingShape) -> None:
        self.shape = shape
        records, numbers, samples = shape.records, shape.numbers, shape.samples

        def array(dtype: type[np.generic], count: int, after: int) -> NDArray[Any]:
            return np.frombuffer(memory, dtype, count, offset + after)

        seals = _HEAD + 8 * records
        self._noted: NDArray[np.int64] = array(np.int64, 1, 0)
        self._seals: NDArray[np.int64] = array(np.int64, records, _HEAD)
        self._numbers: NDArray[np.int64] = array(np.int64, records * numbers, seals).reshape(records, numbers)
        self._samples: Float32 = array(np.float32, records * samples, seals + 8 * records * numbers).reshape(
            records, samples
        )


class RingWriter(_Ring):
    """Writes to a ring; one thread at a time. ``memory`` is a writable buffer that begins with zeros."""

    def __init__(self, memory: Any, offset: int, shape: RingShape) -> None:
        super().__init__(memory, offset, shape)
        self.written: int = 0
        """How many records there have been."""

    @property
    def free(self) -> int:
        """How many more can be written now."""
        return self.shape.records - (self.written - int(self._noted[0]))

    def write(self, numbers: Sequence[int], *samples: Float32) -> bool:
        """Write a record, the samples one after the other; return whether there was room for it."""
        if self.free <= 0:
            return False
        place, end = self.written % self.shape.records, 0
        self._numbers[place, : len(numbers)] = numbers
        for piece in samples:
            self._samples[place, end : end + len(piece)] = piece
            end += len(piece)
        self.written += 1
        self._seals[place] = self.written
        return True


class RingReader(_Ring):
    """Reads what another process has written."""

    def __init__(self, memory: Any, offset: int, shape: RingShape) -> None:
        super().__init__(memory, offset, shape)
        self.taken: int = 0
        """How many records have been read."""

    def read(self, written: int) -> Iterator[tuple[list[int], Float32]]:
        """Yield the numbers and samples of what has not been read, when so many have been ``written``.

        :raises RingError: if there is a gap
        """
        if written - self.taken > self.shape.records:
            raise RingError(f"{written - self.taken} records were written and not read; there is room for fewer")
        while self.taken < written:
            place, number = self.taken % self.shape.records, self.taken + 1
            numbers, samples = self._numbers[place].tolist(), self._samples[place].copy()
            if self._seals[place] != number:
                raise RingError(f"record {number} is not there; its place has {self._seals[place]}")
            self.taken = self._noted[0] = number
            yield numbers, samples


def _rounded(size: int) -> int:
    return -(-size // _HEAD) * _HEAD
