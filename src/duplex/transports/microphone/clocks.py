"""A device's samples on the monotonic clock: a delay-locked loop steers a resampler.

1. The output is a grid: sample k is what was heard at k / rate seconds of the monotonic clock. Two streams on one
   grid are aligned, and over any time as many samples come out as the clock has passed.
2. Each block of a device has a time, which is off by some milliseconds, at random. A second-order loop, wide at first
   and narrow later, follows the device's clock through that; only the reading speed changes, so nothing tears.
3. A block that is off by more than REANCHOR, several times in a row or where samples were lost, begins the stream anew:
   what is missing is silence on the grid, what is there twice is left out. A gap of more than GAP stays a gap.
"""

import math

import numpy as np
from numpy.typing import NDArray

from duplex.transports.microphone.interpolation import Interpolator

__all__ = ["ClockedStream", "Piece"]

Float32 = NDArray[np.float32]
Piece = tuple[int, Float32]
"""The index of its first sample on the grid, and float32 ``[samples]``."""

REANCHOR = 0.03
GAP = 0.5
_OFF_BLOCKS = 5
_OUTLIER = 0.005
"""Seconds that one block's time can pull at most."""
_NARROW, _WIDE = 0.02, 0.05
"""Bandwidths of the loop in hertz, when it has settled and at first."""
_FASTEST = 0.0004
"""Share by which the reading speed differs at most from the nominal one."""
_MOST_DRIFT = 0.0003
_WARM_UP = 0.05
"""Seconds of a stream that are left out: the times of a device's first blocks are guesses."""
_SETTLING = 15.0
"""Seconds of a stream after which its times are followed."""
_OFFSET_SECONDS = 3.0
"""Over which its offset is averaged until then."""


class ClockedStream:
    """Puts a stream of ``source_rate`` on the grid of ``rate``."""

    def __init__(self, source_rate: float, rate: int) -> None:
        self._source_rate = source_rate
        self._rate = rate
        Interpolator(source_rate, rate)  # computes its filter here, in a thread, and not when the first block comes
        self._next = 0
        self._interpolator: Interpolator | None = None
        self._pieces: list[Piece] = []
        self._slow = 0.0
        self._speed = 1.0
        self._elapsed = -_WARM_UP
        self._offset = 0.0
        self._off = 0
        self.anchors: int = 0
        """How often the stream has begun anew, the first time included."""

    @property
    def drift_ppm(self) -> float:
        """By how much the device's clock is faster than the monotonic one."""
        return -self._slow * 1e6

    def push(self, pcm: Float32, time: float, *, lost: bool = False) -> None:
        """Take float32 ``[samples]`` whose first was heard at ``time``; ``lost``: samples before it are missing."""
        seconds = pcm.size / self._source_rate
        self._elapsed += seconds
        if self._elapsed <= 0:
            return
        if self._interpolator is None:
            self._anchor(time)
        error = self._error(time)
        self._off = self._off + 1 if abs(error) > REANCHOR else 0
        if self._off >= (1 if lost else _OFF_BLOCKS):
            self._anchor(time)
            error = 0.0
        if self._elapsed < _SETTLING:
            # A sound server's times wander by ten milliseconds at first: followed, they would slide one stream against
            # the other. The stream is left alone, and the offset that it has in the end is its own from then on.
            self._offset += min(1.0, seconds / min(self._elapsed, _OFFSET_SECONDS)) * (error - self._offset)
        else:
            self._speed = self._steer(max(-_OUTLIER, min(_OUTLIER, error - self._offset)), seconds)
        self._stream.push(pcm)

    def take(self) -> list[Piece]:
        """Return what has become ready."""
        if self._interpolator is not None:
            self._emit(self._interpolator.read(self._source_rate / self._rate * self._speed))
        pieces, self._pieces = self._pieces, []
        return pieces

    @property
    def _stream(self) -> Interpolator:
        assert self._interpolator is not None  # noqa: S101 -- push has anchored
        return self._interpolator

    def _error(self, time: float) -> float:
        """Return by how many seconds a block that begins now is later than the grid has it."""
        stream = self._stream
        ahead = (stream.received - stream.position) / (self._source_rate * (1 - self._slow))
        return time - self._next / self._rate - ahead

    def _steer(self, error: float, seconds: float) -> float:
        """Return the reading speed, as a multiple of the nominal one, after a block of so many seconds."""
        omega = 2 * math.pi * max(_NARROW, min(_WIDE, 0.5 / (self._elapsed - _SETTLING + seconds)))
        self._slow = max(-_MOST_DRIFT, min(_MOST_DRIFT, self._slow + omega**2 * error * seconds))
        correction = self._slow + math.sqrt(2) * omega * error
        return 1 - max(-_FASTEST, min(_FASTEST, correction))

    def _anchor(self, time: float) -> None:
        """Begin anew with a block that begins at ``time``."""
        if self._interpolator is not None:  # its last samples, which waited for those that do not come
            stream, end = self._interpolator, self._interpolator.received
            stream.push(np.zeros(stream.half, np.float32))
            self._emit(stream.read(self._source_rate / self._rate * self._speed, until=end))
        first = math.ceil(time * self._rate)
        missing = first - self._next
        if self.anchors and 0 < missing <= GAP * self._rate:
            self._emit(np.zeros(missing, np.float32))
        self._next = max(first, self._next) if self.anchors else first
        self._interpolator = Interpolator(self._source_rate, self._rate)
        self._interpolator.position = max(0.0, (self._next / self._rate - time) * self._source_rate)
        self._off = 0
        self.anchors += 1

    def _emit(self, pcm: Float32) -> None:
        if pcm.size:
            self._pieces.append((self._next, pcm))
            self._next += pcm.size
