"""One dialogue from its files to its JSON. Blocking; it runs in a worker process.

Results are finished when the file is there, and stay so while the content of the dialogue's files and the settings are
the same.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs] -- it has none

import duplex
from duplex.atomic import atomic_write_text, clear_remains, make_folder
from duplex.errors import OutputError
from duplex.measuring.activity import detect
from duplex.measuring.channels import cut_short, open_channels
from duplex.measuring.dialogue import DialogueMeasures, measure_turns
from duplex.measuring.settings import Settings
from duplex.measuring.source import Source, Turns
from duplex.parsing import parse_json
from duplex.process.recordings import Recording
from duplex.process.run_record import sha256_of

__all__ = ["Outcome", "measure_source", "measure_to_file", "read_measured", "target_of"]

SILENT_DBFS = -60.0
"""A channel that never is louder is called silent."""
SAME_LENGTH = 0.1
"""Seconds by which files of a pair may differ without a note."""
MEASURES = 1
"""The version of the definitions: results of another are made again."""


@attrs.frozen(kw_only=True)
class Outcome:
    """The summary of a dialogue, remarks on it, and whether it was finished before."""

    summary: dict[str, Any]
    notes: list[str]
    skipped: bool = False


def target_of(source: Source, out: Path) -> Path:
    """Return where the measures of a dialogue are written."""
    return out / source.name.with_name(f"{source.name.name}.json")


def measure_to_file(source: Source, out: Path, settings: Settings, *, force: bool = False) -> Outcome:
    """Measure a dialogue and write its JSON, unless it is finished.

    :raises AudioFileError: if a recording cannot be read, or has not the channels that it should
    :raises UsageError: if turns cannot be read
    :raises OutputError: if the file cannot be written, or is something else's
    """
    if source.problem is not None:
        raise source.problem
    target = target_of(source, out)
    identity = {
        "inputs": [
            {"path": file.origin or str(file.path), "sha256": _content_of(source, file)} for file in source.files
        ],
        "label": source.label,
        "stretch": [source.start, source.end],
        "settings": settings.as_json(),
        "measures": MEASURES,
    }
    before = None if force else _finished(target, identity)
    if before is not None:
        return Outcome(summary=before["summary"], notes=before["notes"], skipped=True)
    with threadpool_limits(1, user_api="blas"):  # there is a process for each core: threads would double the work
        measures, notes = measure_source(source, settings)
    make_folder(target.parent)
    clear_remains(target)
    content: dict[str, Any] = {
        "name": source.name.as_posix(),
        **identity,
        "version": duplex.__version__,
        "speakers": list(measures.speakers),
        "notes": notes,
        "summary": measures.summary(),
        "events": measures.records(),
    }
    atomic_write_text(target, json.dumps(content, indent=1) + "\n")  # ASCII: names may have bytes that are no UTF-8
    return Outcome(summary=content["summary"], notes=notes)


def _content_of(source: Source, file: Recording) -> str:
    """Return a hash of what is measured: of turns, those of this dialogue, as their file may have thousands."""
    if source.turns is None:
        return sha256_of(file)
    turns = {name: list(times) for name, times in source.turns.items()}
    return hashlib.sha256(json.dumps(turns).encode()).hexdigest()


def read_measured(path: Path) -> dict[str, Any]:
    """Return the content of a dialogue's JSON.

    :raises OutputError: if it is none
    """
    try:
        content: Any = parse_json(path.read_bytes(), surrogates=True)
        if isinstance(content, dict) and {"summary", "events", "inputs", "notes"} <= content.keys():
            return content  # pyright: ignore[reportUnknownVariableType] -- JSON
    except (OSError, ValueError):
        pass
    raise OutputError(f"{path} holds no measures of a dialogue; remove it, or choose another --out")


def _finished(target: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    if not target.exists():
        return None
    content = read_measured(target)
    same_paths = [each["path"] for each in content["inputs"]] == [each["path"] for each in identity["inputs"]]
    hashes = [each["sha256"] for each in content["inputs"]]
    same_content = hashes == [each["sha256"] for each in identity["inputs"]]
    if not (same_paths or same_content):
        raise OutputError(f"{target} holds the measures of another recording; choose another --out, or give --force")
    same = same_content and all(
        content.get(key) == identity[key] for key in ("label", "stretch", "settings", "measures")
    )
    return content if same else None


def measure_source(source: Source, settings: Settings) -> tuple[DialogueMeasures, list[str]]:
    """Return the measures of a dialogue, and remarks on it.

    :raises AudioFileError: if a recording cannot be read, or has not the channels that it should
    :raises UsageError: if its turns are no times
    """
    if source.turns is not None:
        return _from_turns(source, source.turns, settings)
    with open_channels(source) as channels:
        found = detect(channels, settings)
    longest = max(each.duration for each in found)
    notes = list(cut_short(source, [each.duration for each in found]))
    for speaker, each in zip(source.speakers, found, strict=True):
        if each.peak <= SILENT_DBFS:
            notes.append(f"{speaker} is silent: nothing is louder than {SILENT_DBFS:g} dBFS")
        elif not len(each.times):
            notes.append(f"{speaker} has no speech")
        if longest - each.duration > SAME_LENGTH:
            notes.append(f"{speaker} is {longest - each.duration:.2f} s shorter, and counts as silent there")
    if source.end is not None and source.end - source.start - longest > SAME_LENGTH:
        notes.append(f"the recording ends {source.end - source.start - longest:.2f} s before the dialogue should")
    first, second = (each.times for each in found)
    return measure_turns(first, second, duration=longest, speakers=source.speakers, settings=settings), notes


def _from_turns(source: Source, turns: Turns, settings: Settings) -> tuple[DialogueMeasures, list[str]]:
    first, second = (turns[name] for name in source.speakers)
    last = max((end for times in (first, second) for _, end in times), default=0.0)
    duration = None if source.end is None else max(source.end, last)
    notes = [f"turns are those of {source.files[0].path.name}; nothing was listened to"]
    if duration is None:
        notes.append("the dialogue ends with the last of them")
    return measure_turns(first, second, duration=duration, speakers=source.speakers, settings=settings), notes
