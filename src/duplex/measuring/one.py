"""One dialogue from its files to its JSON. Blocking; it runs in a worker process.

Results are finished when the file is there, and stay so while the content of the dialogue's files and the settings are
the same.
"""

import contextlib
import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

import duplex
from duplex.atomic import atomic_write_text, make_folder
from duplex.errors import AudioFileError, OutputError, UsageError
from duplex.measuring.activity import RATE, detect
from duplex.measuring.dialogue import DialogueMeasures, measure_turns
from duplex.measuring.rttm import read_rttm
from duplex.measuring.settings import Settings
from duplex.measuring.sources import Source
from duplex.parsing import parse_json
from duplex.process.plan import sha256_of

__all__ = ["Outcome", "measure_source", "measure_to_file", "read_measured", "target_of"]

SILENT_DBFS = -60.0
"""A channel that never is louder is called silent."""
SAME_LENGTH = 0.1
"""Seconds by which files of a pair may differ without a note."""
ONE, TWO = 1, 2
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
    target = target_of(source, out)
    identity = {
        "inputs": [{"path": str(file.path), "sha256": sha256_of(file)} for file in source.files],
        "label": source.label,
        "settings": settings.as_json(),
        "measures": MEASURES,
    }
    before = None if force else _finished(target, identity)
    if before is not None:
        return Outcome(summary=before["summary"], notes=before["notes"], skipped=True)
    measures, notes = measure_source(source, settings)
    make_folder(target.parent)
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
    same = same_content and all(content.get(key) == identity[key] for key in ("label", "settings", "measures"))
    return content if same else None


def measure_source(source: Source, settings: Settings) -> tuple[DialogueMeasures, list[str]]:
    """Return the measures of a dialogue, and remarks on it.

    :raises AudioFileError: if a recording cannot be read, or has not the channels that it should
    :raises UsageError: if turns cannot be read
    """
    if source.kind == "rttm":
        return _from_table(source, settings)
    notes: list[str] = []
    with _channels(source) as channels:
        found = detect(channels, settings)
    longest = max(each.duration for each in found)
    for speaker, each in zip(source.speakers, found, strict=True):
        if each.peak <= SILENT_DBFS:
            notes.append(f"{speaker} is silent: nothing is louder than {SILENT_DBFS:g} dBFS")
        elif not len(each.times):
            notes.append(f"{speaker} has no speech")
        if longest - each.duration > SAME_LENGTH:
            notes.append(f"{speaker} is {longest - each.duration:.2f} s shorter, and counts as silent there")
    times: list[NDArray[np.float64]] = [each.times for each in found]
    return measure_turns(*times, duration=longest, speakers=source.speakers, settings=settings), notes


def _from_table(source: Source, settings: Settings) -> tuple[DialogueMeasures, list[str]]:
    path = source.files[0].path
    speakers = read_rttm(path).get(source.label or "", {})
    if len(speakers) != TWO:
        named = ", ".join(speakers) or "none"
        raise UsageError(f"{path} has {len(speakers)} speakers in {source.label} ({named}); give one with two")
    names = tuple(speakers)
    measures = measure_turns(*speakers.values(), speakers=(names[0], names[1]), settings=settings)
    return measures, ["turns are those of the RTTM, and the dialogue ends with the last of them"]


@contextlib.contextmanager
def _channels(source: Source) -> Generator[list[Any], None, None]:
    """Give a decoder for each speaker's channel."""
    from duplex.audio.decoding import Decoder  # noqa: PLC0415 -- it imports PyAV

    with contextlib.ExitStack() as stack:
        decoders: list[Decoder] = []
        wanted = ONE if source.kind == "pair" else TWO
        for index in range(TWO):
            file = source.files[index % len(source.files)]
            side = "left" if source.kind == "pair" or not index else "right"
            decoder = Decoder(file.path, RATE, side, content=file.content)
            stack.callback(decoder.close)
            if decoder.channels != wanted:
                raise AudioFileError(_wrong_channels(file.path, decoder.channels, wanted))
            decoders.append(decoder)
        yield decoders


def _wrong_channels(path: Path, channels: int, wanted: int) -> str:
    if wanted == ONE:
        return f"{path} has {channels} channels, but is one side of a pair; give two mono files, or a stereo file alone"
    if channels == ONE:
        return (
            f"{path} is mono: who speaks cannot be told from it; give a stereo recording, both sides as "
            "NAME-left and NAME-right (or with --pair), or its turns as RTTM"
        )
    return f"{path} has {channels} channels; give one with a channel for each of two speakers"
