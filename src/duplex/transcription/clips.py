"""The user's turns, cut out of the user's audio: a state machine without I/O.

silent     keeps the last ``KEPT`` seconds, as the onset of speech is told late
speaking   keeps all since ``MARGIN`` seconds before the onset; a turn gets too long at ``LONGEST`` seconds, and is
           cut there
"""

from collections import deque

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Clip", "Clipper"]

Float32 = NDArray[np.float32]


@attrs.frozen(eq=False)
class Clip:
    """Speech, float32 ``[samples]``, that begins ``at`` seconds."""

    at: float
    pcm: Float32
    seconds: float


class Clipper:
    """Cuts turns out of one conversation's audio."""

    KEPT = 1.5
    MARGIN = 0.25
    LONGEST = 25.0

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._frames: deque[tuple[float, Float32]] = deque()
        self._since: float | None = None
        """Where the next clip begins, while the user speaks."""
        self._end = 0.0

    def hear(self, at: float, pcm: Float32) -> Clip | None:
        """Take the next frame; return the beginning of a turn that has become too long."""
        self._frames.append((at, pcm))
        self._end = at + len(pcm) / self._rate
        if self._since is None:
            while self._frames[0][0] < self._end - self.KEPT:
                self._frames.popleft()
            return None
        if self._end - self._since < self.LONGEST:
            return None
        clip, self._since = self._cut(self._since, self._end), self._end
        self._frames.clear()
        return clip

    def turn(self, *, started: bool, at: float) -> Clip | None:
        """Take the start or the end of a turn; return the turn that ends."""
        if started:
            self._since = max(at - self.MARGIN, self._frames[0][0] if self._frames else 0.0)
            return None
        since, self._since = self._since, None
        end = min(at + self.MARGIN, self._end)
        return None if since is None or since >= end else self._cut(since, end)

    def finish(self) -> Clip | None:
        """Return the turn that goes on to the end of the audio."""
        return self.turn(started=False, at=self._end)

    def _cut(self, start: float, end: float) -> Clip:
        """Return the audio from ``start`` to ``end``, with silence where frames were skipped."""
        pcm = np.zeros(round((end - start) * self._rate), np.float32)
        for at, frame in self._frames:
            place = round((at - start) * self._rate)
            first, last = max(place, 0), min(place + len(frame), len(pcm))
            if first < last:
                pcm[first:last] = frame[first - place : last - place]
        return Clip(start, pcm, end - start)
