"""The far end beside the near end: what the loudspeaker played when the microphone heard a sample.

Both come as pieces of one grid (:mod:`duplex.transports.microphone.clocks`). The far end is given ``LEAD`` seconds
early: an echo canceller looks for echo after the sound, never before it, and devices report their delays inexactly.
"""

import numpy as np
from numpy.typing import NDArray

from duplex.transports.microphone.clocks import Piece

__all__ = ["LEAD", "BlockCutter", "FarEnd"]

Float32 = NDArray[np.float32]

LEAD = 0.02
_HISTORY_SECONDS = 4


class FarEnd:
    """The last seconds of what was played, and what is about to be; silence where nothing was."""

    def __init__(self, rate: int) -> None:
        self._samples = np.zeros(_HISTORY_SECONDS * rate, np.float32)
        self.end: int = 0
        """The index after the last sample that is known."""

    def write(self, piece: Piece) -> None:
        """Take a piece of what was played."""
        start, pcm = piece
        size = self._samples.size
        if start - self.end >= size:
            self._samples[:] = 0
        elif start > self.end:
            self._samples[np.arange(self.end, start) % size] = 0
        self._samples[np.arange(start, start + pcm.size) % size] = pcm
        self.end = start + pcm.size

    def read(self, start: int, count: int) -> Float32:
        """Return what was played from an index on, float32 ``[count]``."""
        size = self._samples.size
        places = np.arange(start, start + count)
        return np.where((places < self.end) & (places >= self.end - size), self._samples[places % size], np.float32(0))


class BlockCutter:
    """Cuts the near end's pieces into blocks of equal size, each with the index of its first sample."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._start = 0
        self._rest = np.zeros(0, np.float32)

    def push(self, piece: Piece) -> None:
        """Take a piece; before a gap, what does not fill a block is dropped."""
        start, pcm = piece
        if start != self._start + self._rest.size:
            self._start, self._rest = start, pcm
        else:
            self._rest = np.concatenate([self._rest, pcm])

    def next_start(self) -> int | None:
        """Return the index of the next block's first sample, or None while it is not full."""
        return self._start if self._rest.size >= self._size else None

    def take(self) -> Float32:
        """Return the next block, float32 ``[size]``; one must be full."""
        block, self._rest = self._rest[: self._size], self._rest[self._size :]
        self._start += self._size
        return block
