"""Whether the other end of a connection is still there, by what has come. No sockets, no clocks.

Whatever comes is a sign of life: sound, a message, the answer to a ping. Silence is counted in looks, at a steady pace,
and not in seconds: a process that has been held up looks once, and so takes nobody to be gone whose bytes wait to be
read. Nor does silence count while the server itself reads nothing.
"""

from typing import Literal

__all__ = ["Silence"]


class Silence:
    """The silence on a connection, on which something came last at ``arrived``, a time of any clock."""

    ASK_AFTER = 2
    """Looks in a row at which nothing had come, before the other end is asked (a ping)."""
    LOST_AFTER = 5
    """Those before it counts as gone: it has had three to answer."""

    def __init__(self, arrived: float) -> None:
        self._arrived = arrived
        self._looks = 0

    def tick(self, arrived: float, *, unread: bool) -> Literal["ask", "lost"] | None:
        """Take a look; ``unread`` says that something may have come that is not read. Return what is to be done."""
        silent = arrived == self._arrived and not unread
        self._arrived = arrived
        self._looks = self._looks + 1 if silent else 0
        if self._looks >= self.LOST_AFTER:
            return "lost"
        return "ask" if self._looks == self.ASK_AFTER else None
