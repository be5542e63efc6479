"""A device's samples on the monotonic clock: a resampler that follows the device's own.

1. The output is a grid: sample k is what was heard at k / rate seconds of the monotonic clock. Two streams on one
   grid are aligned, and over any time as many samples come out as the clock has passed.
2. Each block of a device has a time, which is off by some milliseconds. A stream's place on the grid is that of its
   first second; from then on it goes at the pace of the device's clock (:mod:`duplex.transports.microphone.drift`),
   and is brought back slowly where it has strayed. Only the reading speed changes, so nothing tears.
3. Times that leave that place by more than STEP at once, for OFF_SECONDS or where samples were lost, are no guess: a
   busy sound server has lost samples, and tells nobody. The stream goes on that much later (or earlier): what is
   missing is silence on the grid, what is there twice is left out. Brought back slowly, it would slide against the
   other stream. Times that return at once are a guess that was mended, and move nothing.
4. A stream that has strayed by more than REANCHOR, or has a gap of more than GAP, begins anew; such a gap stays one.
"""

import math
import statistics

import numpy as np
from numpy.typing import NDArray

from duplex.transports.microphone.drift import DriftFilter
from duplex.transports.microphone.interpolation import Interpolator

__all__ = ["ClockedStream", "Piece"]

Float32 = NDArray[np.float32]
Piece = tuple[int, Float32]
"""The index of its first sample on the grid, and float32 ``[samples]``."""

STEP = 0.007
"""Seconds. PulseAudio's guesses go away from the truth bit by bit, and what it loses has 10 ms or more."""
REANCHOR = 0.03
GAP = 0.5
OFF_SECONDS = 0.3
_USUAL_SECONDS = 0.3
"""Over which it is averaged how far off a stream's times usually are."""
_RETURN_SECONDS = 60.0
"""In which a stream that has strayed from its place is brought back (time constant)."""
_FASTEST = 0.0004
"""Share by which the reading speed differs at most from the nominal one."""
_WARM_UP = 0.05
"""Seconds of a stream that are left out: the times of a device's first blocks are guesses."""
_SETTLING = 1.0
"""Seconds of a stream whose times give its place."""
_MISPLACED = 0.005
"""A stream whose first time was off by more seconds than that begins anew once."""


class ClockedStream:
    """Puts a stream of ``source_rate`` on the grid of ``rate``.

    ``finds_losses`` is False where times that leave their place at once are guesses, too: PulseAudio's of what it
    plays, on a busy machine, go 20 ms away and come back.
    """

    def __init__(self, source_rate: float, rate: int, *, finds_losses: bool = True) -> None:
        self._finds_losses = finds_losses
        self._source_rate = source_rate
        self._rate = rate
        Interpolator(source_rate, rate)  # computes its filter here, in a thread, and not when the first block comes
        self._next = 0
        self._interpolator: Interpolator | None = None
        self._pieces: list[Piece] = []
        self._filter = DriftFilter()
        self._speed = 1.0
        self._elapsed = -_WARM_UP
        self._anchored_at = 0.0
        self._place: float | None = None
        self._first_errors: list[float] = []
        self._mended = self._fresh = False
        self._usual = 0.0
        self._off: list[float] = []
        self.anchors: int = 0
        """How often the stream has been given a place, the first time included."""

    @property
    def drift_ppm(self) -> float:
        """By how much the device's clock is faster than the monotonic one."""
        return -self._filter.drift * 1e6

    def push(self, pcm: Float32, time: float, *, lost: bool = False) -> None:
        """Take float32 ``[samples]`` whose first was heard at ``time``; ``lost``: samples before it are missing."""
        seconds = pcm.size / self._source_rate
        self._elapsed += seconds
        if self._elapsed <= 0:
            return
        if self._interpolator is None:
            self._anchor(time)
        error = self._error(time)
        is_step = self._is_lost(error)
        if is_step or abs(error) > REANCHOR:
            self._off.append(error)
        else:
            self._off.clear()
        if self._off and (lost or (len(self._off) - 1) * seconds > OFF_SECONDS):
            self._step(time) if is_step else self._anchor(time)
            error = self._usual
        if not self._off:
            self._usual += (error - self._usual) * min(1.0, seconds / _USUAL_SECONDS)
            self._follow(time, error, seconds)
        self._stream.push(pcm)
        self._fresh = True

    def take(self) -> list[Piece]:
        """Return what has become ready."""
        if self._interpolator is not None and self._fresh:
            self._emit(self._interpolator.read(self._source_rate / self._rate * self._speed))
            self._fresh = False
        pieces, self._pieces = self._pieces, []
        return pieces

    @property
    def _stream(self) -> Interpolator:
        assert self._interpolator is not None  # noqa: S101 -- push has anchored
        return self._interpolator

    def _error(self, time: float) -> float:
        """Return by how many seconds a block that begins now is later than the grid has it."""
        stream = self._stream
        ahead = (stream.received - stream.position) / (self._source_rate * self._speed)
        return time - self._next / self._rate - ahead

    def _follow(self, time: float, error: float, seconds: float) -> None:
        """Set the reading speed by a block of so many seconds, which begins ``error`` seconds later than the grid."""
        late = time - self._anchored_at - self._stream.received / self._source_rate
        if self._place is None:
            self._first_errors.append(error)
            if len(self._first_errors) * seconds >= _SETTLING:
                self._settle(time - error, statistics.median(self._first_errors))
        elif self._filter.add(late, seconds):
            strayed = self._filter.offset - (late - error + self._place)
            correction = self._filter.drift + strayed / _RETURN_SECONDS
            self._speed = 1 - max(-_FASTEST, min(_FASTEST, correction))

    def _settle(self, gridded: float, place: float) -> None:
        """End the first second with a block that the grid has at ``gridded``, and the times ``place`` later."""
        if abs(place) > _MISPLACED and not self._mended:
            self._anchor(gridded + place)
            self._mended = True
        else:  # not brought back: whether the grid or the first second's times are right, nobody knows
            self._place = place
            self._anchored_at = gridded + place - self._stream.received / self._source_rate

    def _is_lost(self, error: float) -> bool:
        """Return whether the times have left the stream's place at once: those that return to it mend a guess."""
        if not self._finds_losses or self._place is None or abs(error - self._usual) > GAP:
            return False
        return abs(error - self._place) - abs(self._usual - self._place) > STEP

    def _step(self, time: float) -> None:
        """Go on with a block at ``time`` that much later, as times have usually been off lately."""
        received, gridded = self._stream.received, time - self._error(time)
        seconds = statistics.median(self._off) - self._usual
        self._begin(gridded + seconds)
        self._anchored_at += received / self._source_rate + seconds

    def _anchor(self, time: float) -> None:
        """Begin anew with a block that begins at ``time``."""
        self._begin(time)
        self._anchored_at, self._place = time, None
        self._usual = 0.0
        self._mended = False
        self._first_errors.clear()
        self._filter.restart()

    def _begin(self, time: float) -> None:
        """Let the grid go on with a block that begins at ``time``."""
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
        self._off.clear()
        self.anchors += 1

    def _emit(self, pcm: Float32) -> None:
        if pcm.size:
            self._pieces.append((self._next, pcm))
            self._next += pcm.size
