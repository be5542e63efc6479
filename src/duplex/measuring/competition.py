"""Interruptions and backchannels: what a speaker says while the other has the floor. Pure.

- A *backchannel candidate* is a turn of at most 1 s that lies inside a turn of the other: it begins after it and ends
  before it. Without words it stays a candidate: "mhm" and "no!" are alike (Full-Duplex-Bench asks for under 1 s too,
  and for at most two words).
- An *interruption* is a turn that begins inside an inter-pausal unit of the other, overlaps with it for at least
  200 ms, and is no backchannel candidate. Shorter overlaps are those at the ends of turns, which listeners foresee.
- The *stop latency* is the time from its beginning to the end of the unit that it cut into. The *yield latency* is the
  time to the end of the turn that it cut into: until the floor is given up, fresh starts included. It is ``None`` if
  that turn outlasts the interrupter's, who then has not got the floor.
"""

from bisect import bisect_left
from collections.abc import Sequence

import attrs

from duplex.measuring.units import DIGITS, EXACT, Span, Unit

__all__ = ["Backchannel", "Interruption", "find_backchannels", "find_interruptions"]


@attrs.frozen(kw_only=True)
class Backchannel(Span):
    """A candidate: a short turn of ``speaker`` inside the other's."""

    speaker: str


@attrs.frozen(kw_only=True)
class Interruption(Span):
    """A turn of ``speaker`` that begins while ``interrupted`` speaks; latencies in seconds from its start."""

    speaker: str
    interrupted: str
    stop_latency: float
    yield_latency: float | None

    @property
    def yielded(self) -> bool:
        """Whether the interrupted speaker gave up the floor."""
        return self.yield_latency is not None


def find_backchannels(own: Sequence[Unit], others: Sequence[Unit], *, longest: float = 1.0) -> list[Backchannel]:
    """Return the candidates among one speaker's turns, given those of the other."""
    return [
        Backchannel(start=turn.start, end=turn.end, speaker=turn.speaker)
        for turn in own
        if is_backchannel(turn, others, longest=longest)
    ]


def is_backchannel(turn: Unit, others: Sequence[Unit], *, longest: float) -> bool:
    """Tell whether a turn is a candidate, given the other's turns in order."""
    around = _last_before(others, turn.start)
    return around is not None and around.end > turn.end and turn.duration <= longest + EXACT


def find_interruptions(
    own: Sequence[Unit],
    units: Sequence[Unit],
    turns: Sequence[Unit],
    *,
    longest_backchannel: float = 1.0,
    shortest: float = 0.2,
) -> list[Interruption]:
    """Return the interruptions by one speaker's ``own`` turns, of the other's ``units`` and ``turns``."""
    found: list[Interruption] = []
    for turn in own:
        cut, held = _last_before(units, turn.start), _last_before(turns, turn.start)
        if cut is None or held is None or min(cut.end, turn.end) - turn.start < max(shortest - EXACT, EXACT):
            continue
        if is_backchannel(turn, turns, longest=longest_backchannel):
            continue
        found.append(
            Interruption(
                start=turn.start,
                end=turn.end,
                speaker=turn.speaker,
                interrupted=cut.speaker,
                stop_latency=round(cut.end - turn.start, DIGITS),
                yield_latency=round(held.end - turn.start, DIGITS) if held.end < turn.end else None,
            )
        )
    return found


def _last_before(units: Sequence[Unit], at: float) -> Unit | None:
    """Return the last unit that begins before a time."""
    index = bisect_left(units, at, key=lambda unit: unit.start)
    return units[index - 1] if index else None
