"""When to look for audio again: as seldom as can be, and right after the device's block that completes it.

1. Where a frame was complete when it was looked for, the next one is after as long as it lasts: its last block comes at
   the same place in time.
2. It is looked a little earlier than that, so that at times it is too early. Then it is looked again soon, and ever
   later. So the looks come to lie right behind the blocks, wherever they were at first.
"""

import math

__all__ = ["Waits"]

_EARLIER = 0.0005
"""Seconds by which it is looked earlier."""
_SOON, _LATEST = 0.002, 0.02
"""Seconds until it is looked again, at first and at most."""


class Waits:
    """Says how long to wait. Times are seconds of any clock."""

    def __init__(self) -> None:
        self._complete = -math.inf
        self._again = _SOON

    def complete(self, now: float) -> None:
        """Say that all was there when it was looked for."""
        self._complete, self._again = now, _SOON

    def pause(self, wanted: float, now: float) -> float:
        """Return for how long to wait, where so many seconds are to come after what was complete."""
        due = self._complete + wanted - _EARLIER
        if due > now:
            return due - now
        pause, self._again = self._again, min(2 * self._again, _LATEST)
        return pause
