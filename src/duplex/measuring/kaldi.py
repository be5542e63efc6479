"""Kaldi's data directories: ``wav.scp``, and beside it ``reco2file_and_channel``, ``segments`` and ``utt2spk``.

- Which recordings are the two channels of one dialogue ``reco2file_and_channel`` says, a command that takes one of
  them, or their names (``sw02001-A``, ``sw02001-B``).
- Segments are turns, where they are asked for; each recording is a speaker, or ``utt2spk`` tells them apart.
- A command in ``wav.scp`` is never run; some are understood (:mod:`duplex.measuring.commands`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from duplex.errors import UsageError
from duplex.measuring.commands import file_of_command
from duplex.measuring.entries import Entry, place_of
from duplex.measuring.lines import read_lines, seconds
from duplex.measuring.source import Turns

__all__ = ["WAV_SCP", "read_kaldi"]

WAV_SCP = "wav.scp"
_CHANNELS = {"A": 0, "B": 1, "1": 0, "2": 1}
_TWO = 2


def read_kaldi(path: Path, *, given_turns: bool) -> list[Entry]:
    """Return an entry for each recording of a ``wav.scp``.

    :raises UsageError: if a table cannot be read
    """
    files = dict(_table(path.with_name("reco2file_and_channel"), _TWO))
    turns = _turns(path.parent) if given_turns else None
    entries: list[Entry] = []
    for number, line in read_lines(path, "a wav.scp"):
        name, _, rest = line.strip().partition(" ")
        try:
            entries.append(_entry(path, name, rest.strip(), files.get(name), turns))
        except UsageError as problem:
            entries.append(Entry(name=name, paths=(), problem=UsageError(f"{path}, line {number}: {problem}")))
    if not entries:
        raise UsageError(f"{path} has no recordings; give a wav.scp")
    return entries


def _entry(
    manifest: Path, name: str, place: str, file: Sequence[str] | None, turns: Mapping[str, Turns] | None
) -> Entry:
    if not place:
        raise UsageError(f"{name} has no path; write a name and a path a line")
    path, channel = _of_command(manifest, place) if place.endswith("|") else (place_of(manifest, place), None)
    mono = channel is None
    group = None
    if file is not None:
        if file[1] not in _CHANNELS:
            raise UsageError(f"reco2file_and_channel has the channel {file[1]!r} for {name}; write A or B")
        group, channel = file[0], _CHANNELS[file[1]]
    own = None if turns is None else turns.get(name, {name: ()})
    return Entry(name=name, paths=(path,), channel=channel, mono=mono, group=group, turns=own)


def _of_command(manifest: Path, command: str) -> tuple[Path, int | None]:
    """Return the file and the channel that a command would read.

    :raises UsageError: if it is not understood
    """
    file, channel = file_of_command(command)
    return place_of(manifest, file), channel


def _turns(folder: Path) -> dict[str, Turns]:
    """Return the turns of each recording; of one speaker, called by the recording, without ``utt2spk``."""
    path = folder / "segments"
    if not path.is_file():
        raise UsageError(f"{path} does not exist, and turns are to be taken from it; leave --given-turns out")
    speakers = {utterance: fields[0] for utterance, fields in _table(folder / "utt2spk", 1)}
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for utterance, fields in _table(path, 3):
        where = f"{path}, {utterance}"
        start, end = seconds(where, fields[1]), seconds(where, fields[2])
        if end < start:
            raise UsageError(f"{where}: ends before it starts; mend the line")
        own = found.setdefault(fields[0], {})
        own.setdefault(speakers.get(utterance, fields[0]), []).append((start, end))
    return {
        name: {speaker: tuple(sorted(times)) for speaker, times in sorted(own.items())} for name, own in found.items()
    }


def _table(path: Path, columns: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the first column and the others of a table, which may be missing."""
    if not path.is_file():
        return
    for number, line in read_lines(path, f"Kaldi's {path.name}"):
        name, *fields = line.split()
        if len(fields) < columns:
            raise UsageError(f"{path}, line {number}: {len(fields) + 1} fields instead of {columns + 1}; mend the line")
        yield name, fields
