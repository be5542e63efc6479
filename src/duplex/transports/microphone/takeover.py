"""Keeps the agent from hearing itself while WebRTC's canceller takes over a room.

At first AEC3 lets nothing through while something is played. When its filter takes over, after about a second of the
agent's voice, some 0.3 s of the echo pass whole, and the gain control makes them louder still: the agent hears a word
of its own, and falls silent. What passes then is told from a user who cuts in:

1. What of the microphone's sound the loudspeaker explains is measured by the linear response from one to the other
   (:mod:`duplex.transports.microphone.echo_path`). A user's voice is not explained by it.
2. Something passes whole if it comes out of the canceller (before the gain) hardly softer than it was heard. If the
   loudspeaker explains that, it is echo, and is silenced, and so is what follows while that is so.
3. When the loudspeaker falls silent, the room still rings, which the canceller does not expect yet. What is heard then
   is silenced while it fades as a room does: a user who begins to speak is louder than that.
4. After SETTLED_SECONDS of audible sound the canceller is believed: then this looks on only. Where the echo's delay
   jumps, the canceller lets much of it through until it has found it again, at the beginning of each sentence: this
   starts again, and also where echo passes whole for longer.
"""

import numpy as np
from numpy.typing import NDArray

from duplex.transports.microphone.echo_path import EchoPath

__all__ = ["TakeoverGate"]

Float32 = NDArray[np.float32]

SETTLED_SECONDS = 3.0
_AUDIBLE = 10 ** (-50 / 10)
_EXPLAINED, _PASSED = 4.0, -20.0
"""Decibels: of what is heard, explained by the loudspeaker; of what comes out, against what was heard."""
_EXPLAINED_SURELY, _PASSED_SURELY = 8.0, -30.0
"""The same where hardly a user can be in it: the gain control makes even so little of an echo loud."""
_EXPLAINED_STILL = 3.0
"""Decibels that must be explained for what follows to be silenced: in a room that rings, they come and go."""
_EXPLAINED_AGAIN, _PASSED_AGAIN, _PASSED_SECONDS = 6.0, -6.0, 0.2
"""The same for a canceller that has settled, and for how long without a pause: shorter than what is silenced."""
_HOLD_SECONDS = 0.25
_JUMPED_SECONDS = 0.1
"""For which the echo is explained by another delay: for less, a voice may be like itself a pitch period later."""
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
        self._path = EchoPath(rate, lead)
        self._rate = rate
        self._settled = self._passed = self._elsewhere = self._hold = 0.0
        self._ringing = 0.0
        self._gain = 1.0

    def apply(self, near: Float32, far: Float32, out: Float32, gain: float) -> Float32:
        """Return ``out``: what a canceller made of ``near`` and ``far``, times ``gain``; all float32 ``[samples]``."""
        size = round(_PIECE_SECONDS * self._rate)
        pieces = [slice(start, start + size) for start in range(0, near.size, size)]
        return np.concatenate([self._apply(near[each], far[each], out[each], gain) for each in pieces])

    def _apply(self, near: Float32, far: Float32, out: Float32, gain: float) -> Float32:
        self._path.add(near, far)
        seconds = near.size / self._rate
        self._hold = max(0.0, self._hold - seconds)
        played = self._path.played()
        rings = self._rings(near, played[-near.size :])
        if _power(played) < _AUDIBLE:
            return self._faded(out, closed=rings)
        is_known = self._path.is_known
        explained = self._path.explain()
        passed = _decibels(_power(out) / gain**2, _power(near))
        self._follow(seconds)
        if self._settles:
            least = _PASSED_SURELY if explained > _EXPLAINED_SURELY else _PASSED
            if is_known and explained > _EXPLAINED and passed > least:
                self._hold = _HOLD_SECONDS
        else:
            self._watch(explained > _EXPLAINED_AGAIN and passed > _PASSED_AGAIN, seconds)
        return self._faded(out, closed=rings or (self._hold > 0 and explained > _EXPLAINED_STILL))

    @property
    def _settles(self) -> bool:
        return self._settled < SETTLED_SECONDS or self._path.is_elsewhere

    def _follow(self, seconds: float) -> None:
        """Count audible seconds, and start again where the echo's delay has jumped and stays there."""
        self._settled += seconds
        self._elsewhere = self._elsewhere + seconds if self._path.is_elsewhere else 0.0
        if self._elsewhere >= _JUMPED_SECONDS:
            self._path.stay()
            self._settled = 0.0

    def _rings(self, near: Float32, played: Float32) -> bool:
        """Return whether what is heard in a piece is what a room makes of what was played before it."""
        heard, expected = _power(near), self._ringing * _FADING
        self._ringing = max(heard, expected) if _power(played) >= _AUDIBLE else expected
        return self._settles and heard < expected * _FADING_OFF and _power(played) < _AUDIBLE

    def _watch(self, passes: bool, seconds: float) -> None:
        """Start again if a canceller that has settled lets echo through for some time."""
        self._passed = self._passed + seconds if passes else 0.0
        if self._passed >= _PASSED_SECONDS:
            self._settled = self._passed = 0.0

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
