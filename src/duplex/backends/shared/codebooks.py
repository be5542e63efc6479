"""How many of a frame's codes a step computes: no more than its sessions want, rounded to few sizes."""

from collections.abc import Sequence

from duplex.options import SessionOptions

__all__ = ["EVERY", "computed_codebooks"]

EVERY = 0


def computed_codebooks(options: Sequence[SessionOptions]) -> int:
    """Return how many codebooks a step of these sessions computes, a power of two, or ``EVERY``.

    What is compiled, traced or captured for a step is so for each number: hence the few. What a session does not want
    of them is left out of its codes.
    """
    wanted = [each.codebooks for each in options]
    if None in wanted or not wanted:
        return EVERY
    return 1 << (max(number or 0 for number in wanted) - 1).bit_length()
