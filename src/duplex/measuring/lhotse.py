"""lhotse's manifests: recordings, cuts and supervisions, a JSON object a line.

- A recording is a file with two channels, or a file for each of two.
- A cut is a recording from ``start`` on, for ``duration`` seconds. Cuts of one channel each of the same stretch are one
  dialogue. A cut with a second recording, ``custom.target_audio``, is one of ``user`` and ``agent``, as those that NeMo
  trains duplex models on.
- Supervisions are turns: those of a cut where they are asked for, and those of a manifest that has nothing else. Their
  speakers are told apart by name; where they have none, or it is the same, by channel.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from duplex.errors import UsageError
from duplex.measuring.dialogue import SPEAKERS
from duplex.measuring.entries import Entry, place_of
from duplex.measuring.lines import as_list, as_object, seconds
from duplex.measuring.source import SIDES, Turns
from duplex.parsing import shown

__all__ = ["is_lhotse", "read_lhotse", "supervised"]

_STEREO, _TWO = (0, 1), 2


def is_lhotse(fields: Mapping[str, Any]) -> bool:
    """Tell whether a line is a recording or a cut of lhotse's."""
    return "sources" in fields or "recording" in fields or str(fields.get("type", "")).endswith("Cut")


def read_lhotse(manifest: Path, fields: Mapping[str, Any], *, given_turns: bool) -> Entry:
    """Return an entry for a recording or a cut.

    :raises UsageError: if it lacks what it needs, or has what cannot be read from a file as it is
    """
    if "sources" in fields:
        if given_turns:
            raise UsageError("a recording has no turns; give cuts with supervisions, or leave --given-turns out")
        return _recording(manifest, fields)
    kind = str(fields.get("type", "MonoCut"))
    own = as_object(fields.get("recording"))
    if kind not in {"MonoCut", "MultiCut"} or own is None:
        raise UsageError(f"a {kind} without a recording of its own; save it as audio (lhotse's save_audios) first")
    recording = _recording(manifest, own)
    start = seconds("start", str(fields.get("start", 0)))
    entry = attrs.evolve(
        recording,
        name=str(fields.get("id", recording.name)),
        start=start,
        end=start + seconds("duration", str(fields.get("duration"))),
    )
    entry = _with_channel(entry, fields.get("channel"))
    if given_turns:
        return attrs.evolve(entry, turns=_turns(fields.get("supervisions") or []))
    target = as_object((as_object(fields.get("custom")) or {}).get("target_audio"))
    if target is None:
        return entry
    paths = (*entry.paths[:1], *_recording(manifest, target).paths[:1])
    return attrs.evolve(entry, paths=paths, channel=None, speakers=SIDES)


def _recording(manifest: Path, fields: Mapping[str, Any]) -> Entry:
    if fields.get("transforms"):
        raise UsageError("a recording with transforms, which its file does not have; save it as audio first")
    every = as_list(fields.get("sources"))
    if not 1 <= len(every) <= _TWO or not all(isinstance(source, dict) for source in every):
        raise UsageError(f"sources are {shown(every)}; give one file with two channels, or two files")
    for source in every:
        if source.get("type") != "file":
            raise UsageError(f"a source of the type {shown(source.get('type'))}; save it as a file first")
    channels = [as_list(source.get("channels", 0)) for source in every]
    paths = tuple(place_of(manifest, str(source.get("source"))) for source in every)
    return Entry(name=str(fields.get("id", paths[0].stem)), paths=paths, mono=len(paths) == 1 and len(channels[0]) == 1)


def _with_channel(entry: Entry, channel: Any) -> Entry:
    """Return a cut's entry with the channel that it is of, if that is one of several."""
    chosen = as_list(channel)
    if tuple(chosen) == _STEREO or entry.mono or channel is None:
        return entry
    if len(chosen) != 1 or chosen[0] not in _STEREO:
        raise UsageError(f"the channels {shown(channel)}; a dialogue has the channels 0 and 1")
    if len(entry.paths) == _TWO:
        return attrs.evolve(entry, paths=(entry.paths[chosen[0]],), mono=True)
    return attrs.evolve(entry, channel=chosen[0])


def _turns(supervisions: Sequence[Mapping[str, Any]]) -> Turns:
    """Return the times of each speaker; speakers are channels, unless two names tell them apart."""
    names = {str(each.get("speaker")) for each in supervisions if each.get("speaker")}
    by_name = len(names) == len(SPEAKERS) and all(each.get("speaker") for each in supervisions)
    found: dict[str, list[tuple[float, float]]] = {}
    for each in supervisions:
        channel = each.get("channel", 0)
        speaker = str(each["speaker"]) if by_name or len(names) > _TWO else f"channel {shown(channel)}"
        start, length = seconds_of(each, "start"), seconds_of(each, "duration")
        found.setdefault(speaker, []).append((start, start + length))
    return {name: tuple(sorted(times)) for name, times in sorted(found.items())}


def seconds_of(supervision: Mapping[str, Any], field: str) -> float:
    """Return a time of a supervision; a start before its cut is the cut's.

    :raises UsageError: if it is none
    """
    value: Any = supervision.get(field)
    if field == "start" and isinstance(value, int | float) and value < 0:
        return 0.0
    return seconds(f"supervision {supervision.get('id')}, {field}", str(value))


def supervised(supervisions: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Return an entry for each recording that a manifest of supervisions tells of."""
    recordings: dict[str, list[Mapping[str, Any]]] = {}
    for each in supervisions:
        recordings.setdefault(str(each["recording_id"]), []).append(each)
    return [_supervised(name, own) for name, own in recordings.items()]


def _supervised(name: str, own: Sequence[Mapping[str, Any]]) -> Entry:
    try:
        return Entry(name=name, paths=(), turns=_turns(own))
    except UsageError as problem:
        return Entry(name=name, paths=(), problem=problem)
