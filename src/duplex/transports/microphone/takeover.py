"""Keeps the agent from hearing itself while WebRTC's canceller takes over a room.

At first AEC3 lets nothing through while something is played. When its filter takes over, after about a second of the
agent's voice, some 0.3 s of the echo pass whole, and the gain control makes them louder still: the agent hears a word
of its own, and falls silent. What passes then is told from a user who cuts in:

1. What of the microphone's sound the loudspeaker explains is measured by the linear response from one to the other,
   over what was played lately. A user's voice is not explained by it.
2. Something passes whole if it comes out of the canceller (before the gain) hardly softer than it was heard. If the
   loudspeaker explains that, it is echo, and is silenced, and so is what follows while that is so.
3. When the loudspeaker falls silent, the room still rings, which the canceller does not expect yet. What is heard then
   is silenced while it fades as a room does: a user who begins to speak is louder than that.
4. After SETTLED_SECONDS of audible sound the canceller is believed: then this looks on only. Where echo passes whole
   for longer all the same (the streams' places have changed, and the canceller begins anew), it starts again.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["TakeoverGate"]

Float32 = NDArray[np.float32]

SETTLED_SECONDS = 3.0
_AUDIBLE = 10 ** (-50 / 10)
_WINDOW_SECONDS, _HOP_SECONDS = 0.085, 0.08
_BAND = (200.0, 6000.0)
_KEEP = 1 - 1 / 40
"""Of the response, at each hop: it is that of the last three seconds or so."""
_LEAST_HOPS = 4
_EXPLAINED, _PASSED = 4.0, -20.0
"""Decibels: of what is heard, explained by the loudspeaker; of what comes out, against what was heard."""
_EXPLAINED_SURELY, _PASSED_SURELY = 8.0, -30.0
"""The same where hardly a user can be in it: the gain control makes even so little of an echo loud."""
_EXPLAINED_STILL = 3.0
"""Decibels that must be explained for what follows to be silenced: in a room that rings, they come and go."""
_EXPLAINED_AGAIN, _PASSED_AGAIN, _HOPS_AGAIN = 6.0, -6.0, 3
"""The same for a canceller that has settled, and for how many hops in a row."""
_HOLD_SECONDS = 0.25
_PIECE_SECONDS = 0.02
"""Looked at as one: a frame that is taken whole has both echo and none."""
_FADING = 10 ** (-60 / 10 * _PIECE_SECONDS / 1.2)
"""By which share of its power a room's sound fades in a piece at least: one that rings for 1.2 s."""
_FADING_OFF = 10 ** (3 / 10)
"""Of the power: a room's sound does not fade evenly."""
_CLOSED = 0.0
_RAMP_SECONDS = 0.005


class TakeoverGate:
    """Looks at all that goes into a canceller and comes out; ``lead`` is by how many seconds the far end is early."""

    def __init__(self, rate: int, lead: float) -> None:
        size = 2 ** round(np.log2(_WINDOW_SECONDS * rate))
        self._near = np.zeros(size, np.float32)
        self._far = np.zeros(size + round(lead * rate), np.float32)
        self._window = np.hanning(size).astype(np.float32)
        self._bins = slice(*(round(edge * size / rate) for edge in _BAND))
        self._power = np.zeros(self._bins.stop - self._bins.start)
        self._cross = np.zeros(self._power.size, np.complex128)
        self._hop, self._since = round(_HOP_SECONDS * rate), 0
        self._hops, self._settled_hops = 0, round(SETTLED_SECONDS / _HOP_SECONDS)
        self._passed_hops = 0
        self._rate = rate
        self._hold = 0
        self._ringing = 0.0
        self._gain = 1.0

    def apply(self, near: Float32, far: Float32, out: Float32, gain: float) -> Float32:
        """Return ``out``: what a canceller made of ``near`` and ``far``, times ``gain``; all float32 ``[samples]``."""
        size = round(_PIECE_SECONDS * self._rate)
        pieces = [slice(start, start + size) for start in range(0, near.size, size)]
        return np.concatenate([self._apply(near[each], far[each], out[each], gain) for each in pieces])

    def _apply(self, near: Float32, far: Float32, out: Float32, gain: float) -> Float32:
        self._near = np.concatenate([self._near, near])[-self._near.size :]
        self._far = np.concatenate([self._far, far])[-self._far.size :]
        self._since += near.size
        self._hold = max(0, self._hold - near.size)
        played = self._far[: self._near.size]
        rings = self._rings(near, played[-near.size :])
        if _power(played) < _AUDIBLE:
            return self._faded(out, closed=rings)
        is_hop = self._since >= self._hop
        if not (is_hop or self._settles or self._hold):  # a canceller that has settled is looked at once a hop
            return self._faded(out, closed=False)
        explained = self._explained(played)
        passed = _decibels(_power(out) / gain**2, _power(near))
        self._since = 0 if is_hop else self._since
        if self._settles:
            least = _PASSED_SURELY if explained > _EXPLAINED_SURELY else _PASSED
            if self._hops >= _LEAST_HOPS and explained > _EXPLAINED and passed > least:
                self._hold = round(_HOLD_SECONDS * self._rate)
        elif is_hop:
            self._watch(explained > _EXPLAINED_AGAIN and passed > _PASSED_AGAIN)
        return self._faded(out, closed=rings or (self._hold > 0 and explained > _EXPLAINED_STILL))

    @property
    def _settles(self) -> bool:
        return self._hops < self._settled_hops

    def _rings(self, near: Float32, played: Float32) -> bool:
        """Return whether what is heard in a piece is what a room makes of what was played before it."""
        heard, expected = _power(near), self._ringing * _FADING
        self._ringing = max(heard, expected) if _power(played) >= _AUDIBLE else expected
        return self._settles and heard < expected * _FADING_OFF and _power(played) < _AUDIBLE

    def _explained(self, played: Float32) -> float:
        """Return by how many decibels what is heard is more than what the loudspeaker does not explain."""
        far = np.fft.rfft(self._window * played)[self._bins]
        near = np.fft.rfft(self._window * self._near)[self._bins]
        if self._since >= self._hop:
            self._power = self._power * _KEEP + np.abs(far) ** 2
            self._cross = self._cross * _KEEP + np.conj(far) * near
            self._hops += 1
        rest = near - self._cross / (self._power + 1e-9) * far
        return _decibels(float(np.vdot(near, near).real), float(np.vdot(rest, rest).real))

    def _watch(self, passes: bool) -> None:
        """Start again if a canceller that has settled lets echo through for some time."""
        self._passed_hops = self._passed_hops + 1 if passes else 0
        if self._passed_hops >= _HOPS_AGAIN:
            self._hops, self._passed_hops = _LEAST_HOPS, 0

    def _faded(self, out: Float32, *, closed: bool) -> Float32:
        target = _CLOSED if closed else 1.0
        if target == self._gain == 1.0:
            return out
        ramp = min(out.size, round(_RAMP_SECONDS * self._rate))
        gains = np.full(out.size, target, np.float32)
        gains[:ramp] = np.linspace(self._gain, target, ramp)
        self._gain = target
        return out * gains


def _decibels(power: float, other: float) -> float:
    return 10 * float(np.log10((power + 1e-12) / (other + 1e-12)))


def _power(pcm: Float32) -> float:
    return float(np.dot(pcm, pcm)) / pcm.size
