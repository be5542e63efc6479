"""What manifests have in common: an entry is one channel of a dialogue, or all of one.

Entries of one channel are put together where they are the two channels of one file, where the manifest says so
(``group``), or where their names are a pair. What is left is taken for a stereo recording.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from duplex.errors import DuplexError, UsageError
from duplex.measuring.dialogue import SPEAKERS
from duplex.measuring.source import Side, Source, Turns, failed, safe_name
from duplex.measuring.turns import dialogue_of_turns
from duplex.process.pairs import Pair, pair_up
from duplex.process.recordings import Recording

__all__ = ["Entry", "as_sources", "place_of"]

_SIDES: tuple[Side, ...] = ("left", "right")
_TWO = 2


@attrs.frozen(kw_only=True)
class Entry:
    """A line of a manifest: one file, or one for each speaker."""

    name: str
    paths: tuple[Path, ...]
    channel: int | None = None
    """Which channel of the file is meant, from 0 on; ``None`` for all."""
    mono: bool = False
    """Whether the file may have one channel, as far as the manifest says."""
    group: str | None = None
    stem: str | None = None
    """By which it is known for a side of a pair, if not by its name, and what its name has behind it."""
    suffix: str = ""
    start: float = 0.0
    end: float | None = None
    speakers: tuple[str, str] = SPEAKERS
    turns: Turns | None = None
    problem: DuplexError | None = None


def place_of(manifest: Path, text: str) -> Path:
    """Return the path that a manifest names: as it stands, or beside the manifest if it is only there."""
    if "://" in text:
        return Path(text)
    path = Path(text).expanduser()
    beside = manifest.parent / path
    return beside if not path.is_absolute() and (beside.exists() or not path.exists()) else path


def as_sources(manifest: Path, entries: Sequence[Entry], pairs: Sequence[Pair]) -> Iterator[Source]:
    """Yield the dialogues of the entries, in their order."""
    partners = _partners(entries, pairs)
    second = {index for index, _ in partners.values()}
    for index, entry in enumerate(entries):
        if index in partners:
            other, name = partners[index]
            yield _together(manifest, entry, entries[other], name)
        elif index not in second:
            yield _alone(manifest, entry)


def _partners(entries: Sequence[Entry], pairs: Sequence[Pair]) -> dict[int, tuple[int, str]]:
    """Return the index of the second channel for that of the first, with the name of both."""
    partners: dict[int, tuple[int, str]] = {}
    waiting: dict[object, int] = {}
    for index, entry in enumerate(entries):
        if entry.channel not in {0, 1} or entry.problem is not None:
            continue
        key = entry.group or entry.paths, entry.start, entry.end
        first = waiting.pop(key, None)
        if first is None or entries[first].channel == entry.channel:
            waiting[key] = index
        elif entry.channel:
            partners[first] = index, entry.group or _common(entries[first].name, entry.name)
        else:
            partners[index] = first, entry.group or _common(entry.name, entries[first].name)
    left = [index for index in range(len(entries)) if _may_be_paired(entries[index]) and index not in partners]
    left = [index for index in left if index not in {second for second, _ in partners.values()}]
    names = [(entries[index].start, entries[index].stem or entries[index].name) for index in left]
    for match in pair_up(names, pairs):
        if match.second is not None:
            first = entries[left[match.first]]
            name = f"{match.common}{first.suffix}" if match.common else first.name
            partners[left[match.first]] = left[match.second], name
    return partners


def _may_be_paired(entry: Entry) -> bool:
    return len(entry.paths) == 1 and entry.problem is None and (entry.mono or entry.channel is not None)


def _common(first: str, second: str) -> str:
    """Return the beginning that two names have in common, without what separates it from the rest."""
    length = next((index for index, pair in enumerate(zip(first, second, strict=False)) if len({*pair}) > 1), None)
    return first[:length].rstrip("-_. ") or first


def _together(manifest: Path, first: Entry, second: Entry, name: str) -> Source:
    if first.turns is not None and second.turns is not None:
        turns = {
            entry.name: tuple(time for times in (entry.turns or {}).values() for time in times)
            for entry in (first, second)
        }
        return dialogue_of_turns(manifest, name, turns, _length(first))
    own, one_file = safe_name(name), first.paths == second.paths
    if one_file and (first.start, first.end) == (second.start, second.end):
        files = (Recording(first.paths[0], own),)
        return Source(name=own, kind="stereo", files=files, label=name, start=first.start, end=first.end)
    return Source(
        name=own,
        kind="pair",
        files=(Recording(first.paths[0], own), Recording(second.paths[0], own)),
        sides=(_side(first), _side(second)),
        label=name,
        start=first.start,
        end=first.end,
    )


def _side(entry: Entry) -> Side:
    return "mono" if entry.mono or entry.channel is None else _SIDES[entry.channel]


def _alone(manifest: Path, entry: Entry) -> Source:
    if entry.problem is not None:
        return failed(manifest, entry.name, entry.problem)
    if entry.turns is not None:
        return dialogue_of_turns(manifest, entry.name, entry.turns, _length(entry))
    if entry.channel is not None and not entry.mono:
        return failed(
            manifest,
            entry.name,
            UsageError(
                f"{manifest}: {entry.name} is one channel of {entry.paths[0]}, and no entry has the other; "
                "give both, or an entry of the whole recording"
            ),
        )
    name = safe_name(entry.name)
    return Source(
        name=name,
        kind="stereo" if len(entry.paths) == 1 else "pair",
        files=tuple(Recording(path, name) for path in entry.paths),
        speakers=entry.speakers,
        label=entry.name,
        start=entry.start,
        end=entry.end,
    )


def _length(entry: Entry) -> float | None:
    return None if entry.end is None else entry.end - entry.start
