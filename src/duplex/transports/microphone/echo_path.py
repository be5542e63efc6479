"""What of the microphone's sound the loudspeaker explains: the linear response from one to the other, and its delay.

A sound server on a busy machine loses samples and tells nobody, or tells what is not so: the echo then comes some
milliseconds earlier or later than before. Its way through the room is the same. So where the response explains what is
heard better at another delay, the delay is taken to have changed, and the response is kept.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["EchoPath"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex = NDArray[np.complex128]

_WINDOW_SECONDS, _HOP_SECONDS = 0.085, 0.08
_BAND = (200.0, 6000.0)
_KEEP = 1 - 1 / 40
"""Of the response, at each hop: it is that of the last three seconds or so."""
_LEAST_HOPS = 4
_REACH = 0.08
"""Seconds by which the echo may come later than what was played; earlier it may by as much as the far end is early."""
_JUMP = 0.0005
"""Seconds. Clocks that drift apart change the delay by less at once."""
_BETTER, _WELL = 3.0, 4.0
"""Decibels that another delay must explain, more than the one before and at all."""


class EchoPath:
    """Follows two streams; ``lead`` is by how many seconds the far end is early."""

    def __init__(self, rate: int, lead: float) -> None:
        self._size = 2 ** round(np.log2(_WINDOW_SECONDS * rate))
        self._lead, self._reach = round(lead * rate), round(_REACH * rate)
        self._near = np.zeros(self._size, np.float32)
        self._far = np.zeros(self._reach + self._size + self._lead, np.float32)
        self._window = np.hanning(self._size).astype(np.float32)
        self._bins = slice(*(round(min(edge, rate / 2) * self._size / rate) for edge in _BAND))
        self._power = np.zeros(self._bins.stop - self._bins.start)
        self._cross = np.zeros(self._power.size, np.complex128)
        self._hop, self._since, self._hops = round(_HOP_SECONDS * rate), 0, 0
        self._jump = round(_JUMP * rate)
        self._delay = self._usual = 0

    @property
    def is_known(self) -> bool:
        """Whether the response has been learnt, of a third of a second of audible sound."""
        return self._hops >= _LEAST_HOPS

    def add(self, near: Float32, far: Float32) -> None:
        """Take the next of both, float32 ``[samples]`` each."""
        self._near = np.concatenate([self._near, near])[-self._size :]
        self._far = np.concatenate([self._far, far])[-self._far.size :]
        self._since += near.size

    def played(self, delay: int = 0) -> Float32:
        """Return what was played ``delay`` samples before what was heard last, float32 ``[window]``."""
        end = self._far.size - self._lead - delay
        return self._far[end - self._size : end]

    @property
    def is_elsewhere(self) -> bool:
        """Whether the delay is another than the one that was stayed at."""
        return abs(self._delay - self._usual) >= self._jump

    def stay(self) -> None:
        """Take the present delay for the usual one."""
        self._usual = self._delay

    def explain(self) -> float:
        """Return how many decibels of what is heard the loudspeaker explains; the delay follows where it has jumped."""
        near, far = self._spectrum(self._near), self._spectrum(self.played(self._delay))
        response = self._cross / (self._power + 1e-9)
        explained = _explained(near, response * far)
        delay = self._delay + self._later(near, response * far)
        if self.is_known and delay != self._delay and -self._lead <= delay <= self._reach:
            other = self._spectrum(self.played(delay))
            better = _explained(near, response * other)
            if better > max(_WELL, explained + _BETTER):
                far, explained, self._delay = other, better, delay
        if self._since >= self._hop:
            self._learn(near, far)
        return explained

    def _learn(self, near: Complex, far: Complex) -> None:
        self._since = 0
        self._power = self._power * _KEEP + np.abs(far) ** 2
        self._cross = self._cross * _KEEP + np.conj(far) * near
        self._hops += 1
        if self.is_known:
            self._place()

    def _place(self) -> None:
        """Have the response begin within it: where it is late, the two windows have little in common."""
        response = self._cross / (self._power + self._power.mean())  # a voice alone is like itself a pitch period later
        delay = self._delay + self._later(response, np.ones_like(self._power))
        later = min(max(delay, -self._lead), self._reach) - self._delay
        if self._hops > _LEAST_HOPS and abs(later) < self._size // 16:
            return
        bins: Float64 = np.arange(self._bins.start, self._bins.stop, dtype=np.float64)
        self._cross = self._cross * np.exp(2j * np.pi * bins * later / self._size)
        self._delay += later
        self._usual += later

    def _spectrum(self, pcm: Float32) -> Complex:
        return np.fft.rfft(self._window * pcm)[self._bins].astype(np.complex128)

    def _later(self, near: Complex, expected: Complex | Float64) -> int:
        """Return by how many samples what is heard is most like what is expected earlier."""
        whole = np.zeros(self._size // 2 + 1, np.complex128)
        whole[self._bins] = near * np.conj(expected)
        at = int(np.argmax(np.fft.irfft(whole)))
        return at if at < self._size // 2 else at - self._size


def _explained(near: Complex, expected: Complex) -> float:
    rest = near - expected
    return 10 * float(np.log10((np.vdot(near, near).real + 1e-12) / (np.vdot(rest, rest).real + 1e-12)))
