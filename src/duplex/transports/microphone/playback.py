"""The agent's audio on its way to the loudspeaker: a jitter buffer, filled by frames and emptied by a callback.

1. After silence it begins with a margin of silence before the first frame: so much a frame may be late. How much that
   is, :mod:`duplex.transports.microphone.margin` learns.
2. What waits when a frame comes is kept near the margin by playing up to half a per cent faster or slower: nobody hears
   that, and it is more than clocks ever drift.
3. In the agent's pauses it is brought there at once: some of a silent frame is left out, or silence is put before it.
4. It holds LIMIT at most; whoever has more waits, and drops what is too old (and says so: a Lag event).
"""

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import level_dbfs
from duplex.transports.microphone.interpolation import Interpolator
from duplex.transports.microphone.margin import Margin
from duplex.transports.microphone.ring import Ring

__all__ = ["JitterBuffer"]

Float32 = NDArray[np.float32]

LIMIT = 0.4
FASTEST = 0.005
_OFF_FASTEST = 0.015
"""Seconds that what waits is off the margin, where it is played fastest or slowest."""
_PAUSE_DBFS = -50.0
_PAUSE_OFF = 0.005
"""Seconds that what waits may be off the margin in a pause."""


class JitterBuffer:
    """Frames of ``rate`` in, samples of a device's ``device_rate`` out through a ring that its callback reads."""

    def __init__(self, ring: Ring, rate: int, device_rate: float, channels: int, margin: Margin) -> None:
        self.ring = ring
        self._rate = rate
        self._device_rate = device_rate
        self._channels = channels
        self._interpolator = Interpolator(rate, device_rate)
        self.margin = margin
        self._missed = 0
        self._flowing = False
        self.correction: float = 0.0
        """By which share it plays faster."""
        self.underruns: int = 0

    @property
    def seconds(self) -> float:
        """Audio that waits."""
        return self.ring.filled / self._device_rate

    @property
    def full(self) -> bool:
        """Whether whoever has more must wait."""
        return self.seconds > LIMIT

    def push(self, pcm: Float32) -> None:
        """Take a frame, float32 ``[samples]``, unclipped."""
        margin, waiting = self.margin, self.seconds
        if not waiting:
            self._begin()
            waiting = margin.seconds
        if not np.isfinite(pcm.sum()):
            pcm = np.nan_to_num(pcm)
        margin.came(waiting, pcm.size / self._rate)
        if level_dbfs(pcm) < _PAUSE_DBFS:
            pcm = self._adjusted(pcm, waiting)
        self._missed = self.ring.missed
        off = margin.waiting - margin.seconds
        self.correction = max(-FASTEST, min(FASTEST, off / _OFF_FASTEST * FASTEST))
        self._interpolator.push(pcm)
        self._write(self._interpolator.read(self._rate / self._device_rate * (1 + self.correction)))

    def _adjusted(self, pcm: Float32, waiting: float) -> Float32:
        """Return a silent frame, shorter or longer by what waits too much or too little."""
        margin = self.margin
        off = min(waiting, margin.waiting) - margin.seconds
        if waiting > margin.seconds + pcm.size / self._rate:  # not for a moment only: whole frames have come at once
            off = waiting - margin.seconds
        if abs(off) < _PAUSE_OFF:
            return pcm
        change = max(-pcm.size, -round(off * self._rate))
        margin.waiting = max(margin.seconds, margin.waiting + change / self._rate)
        return pcm[: pcm.size + change] if change < 0 else np.concatenate([np.zeros(change, np.float32), pcm])

    def flush(self) -> None:
        """Write what the filter holds back: no more comes."""
        self._interpolator.push(np.zeros(self._interpolator.half, np.float32))
        self._write(self._interpolator.read(self._rate / self._device_rate))
        self._flowing = False

    def _begin(self) -> None:
        """Put the margin before the first frame, after silence."""
        if self._flowing:
            self.underruns += 1
            self.margin.ran_dry((self.ring.missed - self._missed) / self._device_rate)
        self._flowing = True
        self.margin.begin()
        self._write(np.zeros(round(self.margin.seconds * self._device_rate), np.float32))

    def _write(self, pcm: Float32) -> None:
        self.ring.write(np.repeat(np.clip(pcm, -1.0, 1.0)[:, None], self._channels, axis=1))
