"""How much may be asked of a server, by a caller or of its log: a leaky bucket, without clocks or sockets.

1. What a caller sends is poured in, in the seconds that it counts for; the bucket leaks a little faster than time
   passes, so that a microphone whose clock runs fast never fills it.
2. It never runs below empty: a quiet hour is no credit for a flood.
3. What overflows is too much, and whoever sent it is cut off.
"""

import attrs

__all__ = ["CAPACITY_SECONDS", "FRAME_SECONDS", "LeakyBucket"]

CAPACITY_SECONDS = 10.0
"""How far a caller may be ahead of the clock."""
FRAME_SECONDS = 0.004
"""What every frame of a websocket, and every message, counts for at least: 250 a second, whatever is in them."""
LEAK = 1.05
"""Seconds that leak each second."""


@attrs.define
class LeakyBucket:
    """A bucket of ``capacity`` that leaks ``leak`` a second; ``now`` is in seconds, and a clock set back stands still.

    By default it is a caller's, and filled with seconds.
    """

    now: float
    capacity: float = CAPACITY_SECONDS
    leak: float = LEAK
    level: float = 0.0

    def pour(self, amount: float, now: float) -> bool:
        """Take what was asked; return whether it fits. What does not is spilt."""
        level = max(0.0, self.level - max(0.0, now - self.now) * self.leak) + amount
        self.level, self.now = min(level, self.capacity), now
        return level <= self.capacity
