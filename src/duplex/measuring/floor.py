"""The floor between two speakers: pauses, gaps, overlaps, and the offset with which it passes. Pure.

From the inter-pausal units of both (Sacks, Schegloff & Jefferson 1974; Heldner & Edlund 2010; Nguyen et al. 2023):

    A ────────        ────────                 silence, the same speaker before and after:     pause
    B

    A ────────                                 silence, another speaker after:                 gap
    B             ────────

    A ────────────                             both speak, and the floor passes:               overlap, between
    B         ────────────

    A ────────────────                         both speak, one unit lies inside the other:     overlap, within
    B     ───────

- Silence before the first unit and after the last is neither pause nor gap.
- A silence where both begin or stop at the same moment is a pause if somebody spoke before and speaks after, or else
  a gap.
- Units that begin or end together overlap *within*: the shorter lies inside the longer.
- A *floor transfer* is a gap, an overlap between, or the moment where one speaker ends and the other begins. Its
  *offset* is the gap's duration, that of the overlap below zero, or 0.

Nothing depends on which of the two is called first.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import attrs

from duplex.measuring.units import Span, Unit

__all__ = ["Overlap", "Silence", "Transfer", "find_overlaps", "find_silences", "find_transfers"]


@attrs.frozen(kw_only=True)
class Silence(Span):
    """A stretch in which nobody speaks, between units; ``None`` where two spoke, and both began or stopped at once."""

    kind: Literal["pause", "gap"]
    before: str | None
    """Who spoke last; in a pause the same as ``after``."""
    after: str | None


@attrs.frozen(kw_only=True)
class Overlap(Span):
    """A stretch in which both speak."""

    kind: Literal["within", "between"]
    before: str | None
    """Who had the floor: who began first; within, whose unit the other's lies in; ``None`` if both are the same."""
    after: str | None
    """Who has it then; within, the same."""


@attrs.frozen(kw_only=True)
class Transfer:
    """The floor passes ``at`` seconds, where the next speaker begins; ``offset`` is negative if both spoke."""

    at: float
    offset: float
    before: str
    after: str


def find_silences(first: Sequence[Unit], second: Sequence[Unit]) -> list[Silence]:
    """Return pauses and gaps between the units of two speakers, in order."""
    units = sorted((*first, *second), key=lambda unit: (unit.start, unit.end))
    found: list[Silence] = []
    end, before = -1.0, set[str]()
    for index, unit in enumerate(units):
        if before and unit.start > end:
            after = {other.speaker for other in units[index : index + 2] if other.start == unit.start}
            found.append(_silence(end, unit.start, before, after))
        if unit.end > end:
            end, before = unit.end, {unit.speaker}
        elif unit.end == end:
            before = before | {unit.speaker}
    return found


def _silence(start: float, end: float, before: set[str], after: set[str]) -> Silence:
    on = before & after
    if not on:  # then there is one on each side
        return Silence(start=start, end=end, kind="gap", before=min(before), after=min(after))
    speaker = min(on) if len(on) == 1 else None
    return Silence(start=start, end=end, kind="pause", before=speaker, after=speaker)


def find_overlaps(first: Sequence[Unit], second: Sequence[Unit]) -> list[Overlap]:
    """Return where two speakers' units overlap, in order."""
    return [_overlap(one, other) for one, other in overlapping(first, second)]


def overlapping(first: Sequence[Unit], second: Sequence[Unit]) -> Iterator[tuple[Unit, Unit]]:
    """Yield the pairs of units that overlap, in order; both sequences are in order and do not overlap themselves."""
    one = other = 0
    while one < len(first) and other < len(second):
        if max(first[one].start, second[other].start) < min(first[one].end, second[other].end):
            yield first[one], second[other]
        if first[one].end <= second[other].end:
            one += 1
        else:
            other += 1


def _overlap(one: Unit, other: Unit) -> Overlap:
    start, end = max(one.start, other.start), min(one.end, other.end)
    holders = [
        unit
        for unit in (one, other)
        if (unit.start, unit.end) == (min(one.start, other.start), max(one.end, other.end))
    ]
    if holders:
        holder = holders[0].speaker if len(holders) == 1 else None
        return Overlap(start=start, end=end, kind="within", before=holder, after=holder)
    earlier, later = (one, other) if one.start < other.start else (other, one)
    return Overlap(start=start, end=end, kind="between", before=earlier.speaker, after=later.speaker)


def find_transfers(first: Sequence[Unit], second: Sequence[Unit]) -> list[Transfer]:
    """Return how the floor passes between two speakers, in order."""
    found = [
        Transfer(at=silence.end, offset=silence.duration, before=silence.before, after=silence.after)
        for silence in find_silences(first, second)
        if silence.kind == "gap" and silence.before is not None and silence.after is not None
    ]
    found += [
        Transfer(at=overlap.start, offset=-overlap.duration, before=overlap.before, after=overlap.after)
        for overlap in find_overlaps(first, second)
        if overlap.kind == "between" and overlap.before is not None and overlap.after is not None
    ]
    for ending, beginning in ((first, second), (second, first)):
        starts = {unit.start: unit for unit in beginning}
        found += [
            Transfer(at=unit.end, offset=0.0, before=unit.speaker, after=starts[unit.end].speaker)
            for unit in ending
            if unit.end in starts
        ]
    return sorted(found, key=lambda transfer: (transfer.at, transfer.offset))
