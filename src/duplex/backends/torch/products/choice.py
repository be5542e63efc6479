"""What follows from timings: pure functions of numbers.

A weight lies in memory in one layout, whatever number of rows it is multiplied by. The layout that is chosen is the one
that is nearest to the best for each number of rows that is to be expected, all of them counting the same.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import attrs

__all__ = ["Choice", "Layout", "Product", "Timings", "choose", "row_counts", "settled"]

Layout = Literal["rows", "columns", "blocks", "blocks4"]
"""A matrix row by row, column by column, or in oneDNN's blocks, in which fewer than four rows may be filled up to four.

What is filled up is read in the same time, and some processors multiply four rows faster than one.
"""
Timings = Mapping[int, Mapping[Layout, float]]
"""Seconds of a product by number of rows and layout."""
MOST_ROWS = 64
"""Rows beyond which a product is bound by arithmetic, not by reading its weight."""
MARGIN = 0.03
"""What another layout must gain, so that noise does not exchange equals for each other."""
STEADY = 1.25
"""How much longer than the fastest pass the second fastest may take in timings that are to be believed."""


@attrs.frozen
class Product:
    """A product to choose a layout for: ``rows`` are those of one session in one frame."""

    kind: str
    """``"float32"``, ``"bfloat16"`` or ``"int8"``: what the weight is held in."""
    outputs: int
    inputs: int
    rows: int = 1

    def __str__(self) -> str:
        """Return it as tables and files name it, such as ``float32 1536x512 rows 2``."""
        return f"{self.kind} {self.outputs}x{self.inputs} rows {self.rows}"


@attrs.frozen
class Choice:
    """A layout, and why: ``"fixed"`` by the table, ``"timed"`` here, or ``"pinned"`` by whoever loads the model."""

    layout: Layout
    why: Literal["fixed", "timed", "pinned"]


def row_counts(rows: int, sessions: int) -> list[int]:
    """Return the numbers of rows to time for up to so many sessions of ``rows`` each: those of 1, 2, 4, ... of them."""
    counts = [rows]
    while counts[-1] * 2 <= min(rows * sessions, MOST_ROWS):
        counts.append(counts[-1] * 2)
    return counts


def settled(passes: Sequence[float]) -> float | None:
    """Return the seconds that passes over the same product agree on, or ``None``: the machine does something else."""
    if len(passes) < 2:  # noqa: PLR2004 -- nothing agrees with itself
        return None
    first, second = sorted(passes)[:2]
    return first if second <= first * STEADY else None


def choose(timings: Timings, usual: Layout) -> Layout:
    """Return the layout that is nearest to the best, over all numbers of rows; ``usual`` if none is clearly better.

    A layout that was not timed for each of them is none to choose.
    """
    known: tuple[Layout, ...] = get_args(Layout)
    everywhere: list[Layout] = [
        layout for layout in known if timings and all(layout in times for times in timings.values())
    ]
    if not everywhere:
        return usual

    def cost(layout: Layout) -> float:
        return sum(times[layout] / min(times[each] for each in everywhere) for times in timings.values())

    best = min(everywhere, key=cost)
    return usual if usual in everywhere and cost(usual) <= cost(best) * (1 + MARGIN) else best
