"""How much of the agent's audio must wait when a frame comes, so that the next may be late: as little as will do.

1. What matters is by how much frames come later than they do on average. The margin is the worst of that lately, and
   GUARD more; the worst is forgotten slowly. An agent sends frames while it is silent, too: they count as well.
2. When it has run dry all the same, the margin grows by as long as nothing was there to be played, by a half at least
   and by STEP at most: a machine that stood still for longer is not what a margin is for.
3. It is LEAST to MOST, and FIRST before anything is known.
"""

__all__ = ["FIRST", "LEAST", "MOST", "Margin"]

FIRST, LEAST, MOST = 0.02, 0.012, 0.24
STEP = 0.04
GUARD = 0.01
"""Seconds: a device's callback takes a block at a time."""
_FORGET_SECONDS = 30.0
"""In which the worst is forgotten by a half."""
_SMOOTHING = 0.1


class Margin:
    """Times are seconds."""

    def __init__(self) -> None:
        self.seconds: float = FIRST
        self.waiting: float = FIRST
        """What waited on average when a frame came, lately."""
        self._late = FIRST - GUARD

    def begin(self) -> None:
        """Say that the margin waits now, after silence."""
        self.waiting = self.seconds

    def ran_dry(self, seconds: float) -> None:
        """Say that nothing was there for so long while the agent's audio went on."""
        self._late = min(MOST - GUARD, max(self._late + min(seconds, STEP), 1.5 * self.seconds - GUARD))
        self._update()

    def came(self, waiting: float, duration: float) -> None:
        """Say that a frame has come while so much waited."""
        self._late = max(self._late * 0.5 ** (duration / _FORGET_SECONDS), self.waiting - waiting)
        self.waiting += (waiting - self.waiting) * _SMOOTHING
        self._update()

    def _update(self) -> None:
        self.seconds = min(MOST, max(LEAST, self._late + GUARD))
