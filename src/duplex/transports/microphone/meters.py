"""Levels and faults of what is heard and played: what a screen shows, and what it tells."""

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import SILENCE_DBFS

__all__ = ["InputWatch", "LevelMeter", "MicrophoneStats"]

Float32 = NDArray[np.float32]

_METER_SECONDS = 0.1
_CLIPPED = 0.999
_CLIPPED_SECONDS = 1.0


@attrs.frozen(kw_only=True)
class MicrophoneStats:
    """A :class:`duplex.MicrophoneTransport` at a moment."""

    input_device: str
    """Name of the microphone, empty while none is open."""
    output_device: str
    """Name of the loudspeaker, empty while none is open."""
    input_rate: float
    """Hertz."""
    output_rate: float
    """Hertz."""
    input_level: float
    """dBFS of the last 100 ms, after echo cancellation."""
    output_level: float
    """dBFS of the last 100 ms, as played."""
    clipped: bool
    """Whether the microphone was clipped within the last second."""
    silent_seconds: float
    """For how long the microphone has given nothing but zeros."""
    buffered_seconds: float
    """The agent's audio that waits to be played."""
    drift_ppm: float
    """By how much the microphone's clock is faster than the system's."""
    correction: float
    """By which share the agent is played faster, -0.005 to 0.005."""
    underruns: int
    """How often the agent's audio came too late."""
    overruns: int
    """How often the microphone's audio was not taken in time, and lost."""
    echo_reduction: float | None
    """dB by which the echo is lowered; None without echo cancellation, and before anything was played."""


class LevelMeter:
    """The level of the last tenth of a second."""

    def __init__(self, rate: float) -> None:
        self._share = 1 / (_METER_SECONDS * rate)
        self._power = 0.0

    @property
    def level(self) -> float:
        """Decibels below full scale, at least -120."""
        return max(SILENCE_DBFS, 10 * float(np.log10(self._power))) if self._power > 0 else SILENCE_DBFS

    def add(self, pcm: Float32) -> Float32:
        """Count float32 ``[samples]``; return them."""
        if pcm.size:
            keep = float(np.exp(-pcm.size * self._share))
            self._power = self._power * keep + (1 - keep) * float(np.dot(pcm, pcm)) / pcm.size
        return pcm


class InputWatch:
    """What is wrong with a microphone's audio before anything is done to it."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._since_clipped = float("inf")
        self.silent_seconds: float = 0.0

    @property
    def clipped(self) -> bool:
        """Whether it was clipped within the last second."""
        return self._since_clipped < _CLIPPED_SECONDS

    def add(self, pcm: Float32) -> Float32:
        """Count float32 ``[samples]``; return them with zeros for NaN and infinity."""
        clean = pcm if np.isfinite(pcm.sum()) else np.nan_to_num(pcm, nan=0.0, posinf=0.0, neginf=0.0)
        seconds = pcm.size / self._rate
        peak = float(np.abs(clean).max(initial=0.0))
        self._since_clipped = 0.0 if peak >= _CLIPPED else self._since_clipped + seconds
        self.silent_seconds = 0.0 if peak else self.silent_seconds + seconds
        return clean
