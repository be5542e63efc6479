"""All measures of one dialogue, from the times at which its two speakers speak. Pure: numpy in, tables out."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike

from duplex.errors import UsageError
from duplex.measuring.competition import Backchannel, Interruption, find_backchannels, find_interruptions
from duplex.measuring.floor import Overlap, Silence, Transfer, find_overlaps, find_silences, find_transfers
from duplex.measuring.settings import Settings
from duplex.measuring.units import Span, Unit, as_intervals, inter_pausal_units, turns

__all__ = ["DialogueMeasures", "measure_turns"]

PLACES = ("first", "second")
SPEAKERS = ("left", "right")


@attrs.frozen(kw_only=True)
class DialogueMeasures:
    """What two speakers do in a dialogue of ``duration`` seconds, each list in order of time."""

    speakers: tuple[str, str]
    duration: float
    units: list[Unit]
    turns: list[Unit]
    silences: list[Silence]
    overlaps: list[Overlap]
    transfers: list[Transfer]
    interruptions: list[Interruption]
    backchannels: list[Backchannel]

    @property
    def offsets(self) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        """The floor-transfer offsets in seconds, float64 ``[transfers]``."""
        return np.array([transfer.offset for transfer in self.transfers], np.float64)

    def records(self) -> list[dict[str, Any]]:
        """Return all events as rows of one table, by time: ``pandas.DataFrame(measures.records())``.

        Every row has the columns ``event``, ``start``, ``end``, ``duration``, ``speaker``, ``other``, ``offset``,
        ``stop_latency`` and ``yield_latency``, with ``None`` where one has no meaning.
        """
        rows = [
            *(_row("unit", unit, unit.speaker) for unit in self.units),
            *(_row("turn", turn, turn.speaker) for turn in self.turns),
            *(_row(silence.kind, silence, silence.before, silence.after) for silence in self.silences),
            *(_row(f"overlap_{overlap.kind}", overlap, overlap.before, overlap.after) for overlap in self.overlaps),
            *(
                _row("transfer", Span(start=each.at, end=each.at), each.before, each.after, offset=each.offset)
                for each in self.transfers
            ),
            *(
                _row(
                    "interruption",
                    each,
                    each.speaker,
                    each.interrupted,
                    stop_latency=each.stop_latency,
                    yield_latency=each.yield_latency,
                )
                for each in self.interruptions
            ),
            *(_row("backchannel", each, each.speaker) for each in self.backchannels),
        ]
        return sorted(rows, key=lambda row: row["start"])

    def summary(self) -> dict[str, Any]:
        """Return the figures of the whole dialogue as one row of a table; seconds unless the name says otherwise.

        The speakers are ``first`` and ``second``, with their names beside, so that rows of all dialogues fit together.
        A share is that of both speakers' speech. What there is none of has ``None`` for its median.
        """
        row: dict[str, Any] = {"duration": self.duration}
        spoken = {name: _seconds(_of(self.units, name)) for name in self.speakers}
        both = sum(spoken.values())
        for place, name in zip(PLACES, self.speakers, strict=True):
            units = _of(self.units, name)
            row |= {
                f"{place}_speaker": name,
                f"{place}_speech": spoken[name],
                f"{place}_share": round(spoken[name] / both, 6) if both else None,
                f"{place}_units": len(units),
                f"{place}_unit_median": _median([unit.duration for unit in units]),
                f"{place}_turns": len(_of(self.turns, name)),
                f"{place}_interruptions": len(_of(self.interruptions, name)),
                f"{place}_backchannels": len(_of(self.backchannels, name)),
            }
        groups: Mapping[str, Sequence[Span]] = {
            "pause": [each for each in self.silences if each.kind == "pause"],
            "gap": [each for each in self.silences if each.kind == "gap"],
            "overlap_between": [each for each in self.overlaps if each.kind == "between"],
            "overlap_within": [each for each in self.overlaps if each.kind == "within"],
        }
        for kind, spans in groups.items():
            durations = [span.duration for span in spans]
            row |= {f"{kind}_count": len(spans), f"{kind}_total": _seconds(spans), f"{kind}_median": _median(durations)}
        yielded = [each.yield_latency for each in self.interruptions if each.yield_latency is not None]
        offsets = self.offsets
        return row | {
            "offset_count": len(offsets),
            "offset_median": _median(offsets),
            "offset_mean": round(float(offsets.mean()), 6) if offsets.size else None,
            "offset_deviation": round(float(offsets.std()), 6) if offsets.size else None,
            "interruptions_yielded": len(yielded),
            "stop_latency_median": _median([each.stop_latency for each in self.interruptions]),
            "yield_latency_median": _median(yielded),
        }


def measure_turns(
    first: ArrayLike,
    second: ArrayLike,
    *,
    duration: float | None = None,
    speakers: tuple[str, str] = SPEAKERS,
    settings: Settings | None = None,
) -> DialogueMeasures:
    """Measure a dialogue from the times at which each of two speakers speaks.

    :param first: starts and ends in seconds, ``[n, 2]``; they may overlap and be in any order
    :param second: those of the other speaker
    :param duration: of the dialogue in seconds; where the last speech ends, if left out
    :raises UsageError: if times are none, the duration ends before them, or the speakers have one name
    """
    settings = settings or Settings()
    if len(set(speakers)) != len(PLACES):
        raise UsageError(f"the speakers are {', '.join(speakers)}; give two names that differ")
    times = as_intervals(first), as_intervals(second)
    last = max((float(each[:, 1].max()) for each in times if each.size), default=0.0)
    if duration is not None and not duration >= last:
        raise UsageError(f"duration is {duration} s, but there is speech up to {last} s; give the whole dialogue's")
    units = [
        inter_pausal_units(each, name, minimum_silence=settings.minimum_silence, minimum_speech=settings.minimum_speech)
        for each, name in zip(times, speakers, strict=True)
    ]
    held = [turns(each, turn_silence=settings.turn_silence) for each in units]
    backchannels = [
        each
        for own, other in (held, held[::-1])
        for each in find_backchannels(own, other, longest=settings.longest_backchannel)
    ]
    interruptions = [
        each
        for own, (others, other_turns) in zip(held, reversed(list(zip(units, held, strict=True))), strict=True)
        for each in find_interruptions(
            own,
            others,
            other_turns,
            longest_backchannel=settings.longest_backchannel,
            shortest=settings.shortest_interruption,
        )
    ]
    return DialogueMeasures(
        speakers=speakers,
        duration=round(last if duration is None else float(duration), 6),
        units=sorted((*units[0], *units[1]), key=_by_time),
        turns=sorted((*held[0], *held[1]), key=_by_time),
        silences=find_silences(*units),
        overlaps=find_overlaps(*units),
        transfers=find_transfers(*units),
        interruptions=sorted(interruptions, key=_by_time),
        backchannels=sorted(backchannels, key=_by_time),
    )


def _by_time(span: Any) -> tuple[float, float, str]:
    return span.start, span.end, span.speaker


def _of(items: Sequence[Any], speaker: str) -> list[Any]:
    return [item for item in items if item.speaker == speaker]


def _seconds(spans: Sequence[Span]) -> float:
    return round(sum(span.duration for span in spans), 6)


def _median(values: ArrayLike) -> float | None:
    array = np.asarray(values, np.float64)
    return round(float(np.median(array)), 6) if array.size else None


def _row(event: str, span: Span, speaker: str | None, other: str | None = None, **more: float | None) -> dict[str, Any]:
    empty = {"offset": None, "stop_latency": None, "yield_latency": None}
    times = {"start": span.start, "end": span.end, "duration": span.duration}
    return {"event": event, **times, "speaker": speaker, "other": other, **empty, **more}
