"""The agent's audio on its way to the loudspeaker: a jitter buffer, filled by frames and emptied by a callback.

1. After silence it begins with a margin of silence before the first frame: so much a frame may be late.
2. What waits when a frame comes is kept near the margin by playing up to half a per cent faster or slower: nobody hears
   that, and it is more than clocks ever drift.
3. Each time it runs dry the margin grows by a half, up to MARGIN_MOST; it shrinks again slowly.
4. What waits beyond the margin is made up for in the agent's pauses: a silent frame is left out.
5. It holds LIMIT at most; whoever has more waits, and drops what is too old (and says so: a Lag event).
"""

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import level_dbfs
from duplex.transports.microphone.interpolation import Interpolator
from duplex.transports.microphone.ring import Ring

__all__ = ["JitterBuffer"]

Float32 = NDArray[np.float32]

MARGIN_LEAST, MARGIN_MOST = 0.03, 0.24
LIMIT = 0.4
FASTEST = 0.005
_SHRINK_SECONDS = 60.0
"""In which the margin shrinks to a half."""
_SMOOTHING = 0.1
_PAUSE_DBFS = -50.0


class JitterBuffer:
    """Frames of ``rate`` in, samples of a device's ``device_rate`` out through a ring that its callback reads."""

    def __init__(self, ring: Ring, rate: int, device_rate: float, channels: int, margin: float = MARGIN_LEAST) -> None:
        self.ring = ring
        self._rate = rate
        self._device_rate = device_rate
        self._channels = channels
        self._interpolator = Interpolator(rate, device_rate)
        self.margin: float = margin
        """Seconds that wait when a frame comes."""
        self._smooth = self.margin
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
        waiting = self.seconds
        if not waiting:
            self._begin()
            waiting = self.margin
        duration = pcm.size / self._rate
        if waiting > self.margin + duration and level_dbfs(pcm) < _PAUSE_DBFS:
            return
        self.margin = max(MARGIN_LEAST, self.margin * 0.5 ** (duration / _SHRINK_SECONDS))
        self._smooth += (waiting - self._smooth) * _SMOOTHING
        excess = (self._smooth - self.margin) / self.margin * 0.01
        self.correction = max(-FASTEST, min(FASTEST, excess))
        self._interpolator.push(np.nan_to_num(pcm))
        self._write(self._interpolator.read(self._rate / self._device_rate * (1 + self.correction)))

    def flush(self) -> None:
        """Write what the filter holds back: no more comes."""
        self._interpolator.push(np.zeros(self._interpolator.half, np.float32))
        self._write(self._interpolator.read(self._rate / self._device_rate))
        self._flowing = False

    def _begin(self) -> None:
        """Put the margin before the first frame, after silence."""
        if self._flowing:
            self.underruns += 1
            self.margin = min(MARGIN_MOST, self.margin * 1.5)
        self._flowing = True
        self._smooth = self.margin
        self._write(np.zeros(round(self.margin * self._device_rate), np.float32))

    def _write(self, pcm: Float32) -> None:
        self.ring.write(np.repeat(np.clip(pcm, -1.0, 1.0)[:, None], self._channels, axis=1))
