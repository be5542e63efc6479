"""When to look for audio again: as seldom as can be, and right after the device's block that completes it.

1. Where audio came when it was looked for, and so many seconds are missing still, it is looked again after as long: a
   device's block has just come then, too.
2. Each such wait is a little shorter, so that at times it ends before the block comes. Then it is looked again soon, and
   ever later. So the looks come to lie right behind the blocks, wherever they were at first.
"""

import math

__all__ = ["Waits"]

_EARLIER = 0.0005
"""Seconds by which a wait is shorter than what is missing."""
_SOON, _LATEST = 0.002, 0.02
"""Seconds until it is looked again, at first and at most."""


class Waits:
    """Says how long to wait. Times are seconds of any clock."""

    def __init__(self) -> None:
        self._came = -math.inf
        self._again = _SOON

    def came(self, now: float) -> None:
        """Say that audio had come when it was looked for."""
        self._came, self._again = now, _SOON

    def pause(self, missing: float, now: float) -> float:
        """Return for how long to wait, while so many seconds are missing to what came."""
        due = self._came + missing - _EARLIER
        if due > now:
            return due - now
        pause, self._again = self._again, min(2 * self._again, _LATEST)
        return pause
