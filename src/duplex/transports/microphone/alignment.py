"""The far end beside the near end: what the loudspeaker played when the microphone heard a sample.

Both come as pieces of one grid (:mod:`duplex.transports.microphone.clocks`). The far end is given ``LEAD`` seconds
early: an echo canceller looks for echo after the sound, never before it, and devices report their delays inexactly.
"""

from collections import deque
from collections.abc import Sequence

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
        first = min(pcm.size, size - start % size)
        self._samples[start % size : start % size + first] = pcm[:first]
        self._samples[: pcm.size - first] = pcm[first:]
        self.end = start + pcm.size

    def read(self, start: int, count: int) -> Float32:
        """Return what was played from an index on, float32 ``[count]``."""
        out, size = np.zeros(count, np.float32), self._samples.size
        begin, end = max(start, self.end - size), min(start + count, self.end)
        if begin < end:
            known, first = out[begin - start : end - start], min(end - begin, size - begin % size)
            known[:first] = self._samples[begin % size : begin % size + first]
            known[first:] = self._samples[: end - begin - first]
        return out


class BlockCutter:
    """Cuts the near end's pieces into blocks of equal size; at a gap, what does not fill a block is dropped.

    What comes, comes in whole blocks of a device. After a gap the cuts are laid ``slack`` samples before the end of
    what has come first, so that a block is full when a device's block arrives, and does not wait for the next one.
    """

    def __init__(self, size: int, slack: int) -> None:
        self._size = size
        self._slack = slack
        self._runs: deque[tuple[int, Float32]] = deque()
        self._end = -1

    @property
    def held(self) -> int:
        """Samples that wait without a gap up to the last that has come."""
        return self._runs[-1][1].size if self._runs else 0

    def push(self, pieces: Sequence[Piece]) -> None:
        """Take the pieces that have come since."""
        for start, pcm in pieces:
            if start == self._end and self._runs:
                begin, rest = self._runs[-1]
                self._runs[-1] = (begin, np.concatenate([rest, pcm]))
            else:
                skipped = (pcm.size - self._slack) % self._size if pcm.size > self._slack else 0
                self._runs.append((start + skipped, pcm[skipped:]))
            self._end = start + pcm.size

    def next(self) -> tuple[int, int]:
        """Return the index of the next block's first sample, and how many blocks without a gap are full from there."""
        while len(self._runs) > 1 and self._runs[0][1].size < self._size:
            self._runs.popleft()
        return (self._runs[0][0], self._runs[0][1].size // self._size) if self._runs else (0, 0)

    def take(self, count: int) -> Float32:
        """Return the next ``count`` blocks as one float32 ``[count * size]``; so many must be full."""
        start, rest = self._runs[0]
        taken = count * self._size
        self._runs[0] = (start + taken, rest[taken:])
        return rest[:taken]
