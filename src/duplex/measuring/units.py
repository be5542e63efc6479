"""Inter-pausal units and turns: what one speaker does, from times of speech. Pure.

- An *inter-pausal unit* (IPU) is a stretch of one speaker's speech between silences of at least 200 ms (the usual
  threshold; Nguyen et al. 2023, dGSLM). First, speech is joined over shorter silences; then units of less than 100 ms
  are dropped.
- A *turn* is a run of one speaker's units, joined over silences of less than 1 s, whatever the other does meanwhile.

Times are seconds, rounded to the microsecond, so that what touches on paper touches here.
"""

from collections.abc import Iterable, Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from duplex.errors import UsageError

__all__ = ["Span", "Unit", "as_intervals", "inter_pausal_units", "turns"]

DIGITS = 6
EXACT = 1e-9
"""Seconds below which a duration that is computed counts as one that was meant."""


@attrs.frozen(kw_only=True)
class Span:
    """A stretch of time, from ``start`` to ``end`` in seconds."""

    start: float
    end: float

    @property
    def duration(self) -> float:
        """Its length in seconds."""
        return round(self.end - self.start, DIGITS)


@attrs.frozen(kw_only=True)
class Unit(Span):
    """A stretch of one speaker's: an inter-pausal unit, or a turn."""

    speaker: str


def as_intervals(times: ArrayLike) -> NDArray[np.float64]:
    """Return times of speech as float64 ``[n, 2]``, starts and ends in seconds, in order.

    :raises UsageError: if they have another shape, are not finite or negative, or an end is before its start
    """
    try:
        intervals = np.asarray(times, np.float64)
    except (ValueError, TypeError):
        raise UsageError("times of speech are no numbers; give [[start, end], ...] in seconds") from None
    if not intervals.size:
        return np.zeros((0, 2))
    if intervals.shape[1:] != (2,) or intervals.ndim != 2:  # noqa: PLR2004 -- starts and ends
        raise UsageError(f"times of speech have the shape {intervals.shape}; give [[start, end], ...] in seconds")
    if not np.isfinite(intervals).all() or (intervals < 0).any():
        raise UsageError("times of speech are negative or not finite; give seconds from the beginning")
    if (intervals[:, 1] < intervals[:, 0]).any():
        raise UsageError("a time of speech ends before it starts; give [[start, end], ...] in seconds")
    return np.round(intervals[np.argsort(intervals[:, 0], kind="stable")], DIGITS)


def inter_pausal_units(
    times: ArrayLike, speaker: str, *, minimum_silence: float = 0.2, minimum_speech: float = 0.1
) -> list[Unit]:
    """Return one speaker's inter-pausal units, in order, from times of speech ``[n, 2]`` in seconds.

    :raises UsageError: if the times are none
    """
    joined = _joined(map(tuple, as_intervals(times).tolist()), minimum_silence)
    return [
        Unit(start=start, end=end, speaker=speaker)
        for start, end in joined
        if end > start and end - start >= minimum_speech - EXACT
    ]


def turns(units: Sequence[Unit], *, turn_silence: float = 1.0) -> list[Unit]:
    """Return the turns of one speaker's units, in order."""
    joined = _joined(((unit.start, unit.end) for unit in units), turn_silence)
    return [Unit(start=start, end=end, speaker=units[0].speaker) for start, end in joined]


def _joined(intervals: Iterable[tuple[float, float]], silence: float) -> list[tuple[float, float]]:
    """Join intervals in order of their starts, where they touch or the silence between them is shorter."""
    joined: list[tuple[float, float]] = []
    for start, end in intervals:
        if joined and (start <= joined[-1][1] or start - joined[-1][1] < silence - EXACT):
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined
