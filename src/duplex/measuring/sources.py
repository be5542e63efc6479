"""Which dialogues are meant, and where each speaker's channel is.

Rules, beside those of :mod:`duplex.process.recordings` on folders, patterns, pipes and names:

- A folder of results (``dialogue.wav`` beside ``run.json``) and a server's recording (beside ``events.jsonl``) are one
  dialogue, of ``user`` and ``agent``, named by the folder.
- Files whose names fit a pair of patterns (``*-left`` and ``*-right``, the suffix apart) and are alike but for that are
  the two channels of one dialogue, named by what is alike.
- A file that ends in ``.rttm`` and is given by name is a dialogue for each recording in it, with its own speakers. In
  a folder it is passed over, as it tells of recordings that may lie beside it.
- Any other recording has the first speaker on its first channel, and the second on its second.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Literal, TypeAlias

import attrs

from duplex.errors import UsageError
from duplex.measuring.dialogue import SPEAKERS
from duplex.measuring.rttm import read_rttm
from duplex.process.recordings import PassedOver, Recording, find_recordings
from duplex.results.files import DIALOGUE, EVENTS, RUN

__all__ = ["PAIR", "Source", "find_dialogues", "parse_pair"]

Pair: TypeAlias = tuple[str, str]
PAIR: Pair = ("*-left", "*-right")
"""Patterns of the names of two files that belong together, without suffixes."""
SIDES = ("user", "agent")


@attrs.frozen(kw_only=True)
class Source:
    """A dialogue, and the ``name`` of its results; it has one file, or one for each of its ``speakers``.

    ``label`` is the recording's name inside an RTTM file.
    """

    name: PurePath
    kind: Literal["stereo", "pair", "rttm"]
    files: tuple[Recording, ...]
    speakers: tuple[str, str] = SPEAKERS
    label: str | None = None


def parse_pair(patterns: Sequence[str]) -> Pair:
    """Return two patterns of names without suffixes: ``*-A.wav`` and ``*-A`` mean the same.

    :raises UsageError: if one has not exactly one ``*``, or both are the same
    """
    bare = tuple(PurePath(pattern).stem if PurePath(pattern).suffix else pattern for pattern in patterns)
    if len(bare) != len(PAIR) or bare[0] == bare[1] or any(each.count("*") != 1 or each == "*" for each in bare):
        raise UsageError(f"{' and '.join(patterns)} are no pair of patterns; give two, such as '*-left' '*-right'")
    return bare[0], bare[1]


def find_dialogues(
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    pair: Pair = PAIR,
    passed_over: PassedOver | None = None,
) -> list[Source]:
    """Return the dialogues that files, folders and patterns stand for, each with a name of its own.

    What is not there is returned as it was given: measuring it tells what is wrong, and does not stop the others.

    :raises UsageError: if no input is given
    """
    given = list(inputs)
    tables = [Path(each) for each in given if Path(each).suffix.lower() == ".rttm" and not Path(each).is_dir()]
    others = [each for each in given if Path(each) not in tables]
    sources = [source for table in tables for source in _of_table(table)]
    if others or not tables:
        results = [folder for each in others for folder in _folders_of_results(Path(each), out)]
        inside = {os.path.realpath(folder) for folder in results}
        left = [each for each in others if os.path.realpath(each) not in inside]
        found = find_recordings(left, out, passed_over=passed_over) if left or not results else []
        found = [each for each in found if os.path.realpath(each.path.parent) not in inside]
        sources += [_of_folder(folder, others) for folder in results] + _paired(found, pair)
    return _with_own_names(sources)


def _folders_of_results(given: Path, out: str | os.PathLike[str] | None) -> list[Path]:
    """Return the folders with a dialogue of user and agent, in a folder and below."""
    try:
        if not given.is_dir():
            return []
        output = None if out is None else os.path.realpath(out)
        return sorted(
            path.parent
            for path in given.rglob(DIALOGUE)
            if ((path.parent / RUN).is_file() or (path.parent / EVENTS).is_file())
            and (output is None or not Path(os.path.realpath(path)).is_relative_to(output))
        )
    except (OSError, ValueError):  # a name that no file can have, or one that may not be looked at
        return []


def _of_folder(folder: Path, given: Sequence[str | os.PathLike[str]]) -> Source:
    roots = [Path(each) for each in given if folder != Path(each) and folder.is_relative_to(each)]
    name = folder.relative_to(roots[0]) if roots else PurePath(folder.resolve().name or "dialogue")
    return Source(name=name, kind="stereo", files=(Recording(folder / DIALOGUE, name),), speakers=SIDES)


def _of_table(path: Path) -> list[Source]:
    """Return a dialogue for each recording in an RTTM file; one without a label, if it cannot be read."""
    file = Recording(path, PurePath(path.stem))
    try:
        labels = list(read_rttm(path))
    except UsageError:
        return [Source(name=file.name, kind="rttm", files=(file,))]
    safe = [label.replace("/", "_").replace("\\", "_").strip(".") or "recording" for label in labels]
    return [
        Source(name=PurePath(name), kind="rttm", files=(file,), label=label)
        for name, label in zip(safe, labels, strict=True)
    ]


def _paired(found: Sequence[Recording], pair: Pair) -> list[Source]:
    """Return pairs, and what is none, in the order in which they were found."""
    seconds = {_key(each, pair[1]): each for each in found if _middle(each, pair[1]) is not None}
    firsts = {_key(each, pair[0]) for each in found if _middle(each, pair[0]) is not None}
    sources: list[Source] = []
    for each in found:
        middle, key = _middle(each, pair[0]), _key(each, pair[0])
        if middle is not None and key in seconds:
            name = each.name.with_name(middle or each.name.name)
            sources.append(Source(name=name, kind="pair", files=(each, seconds[key])))
        elif _middle(each, pair[1]) is None or _key(each, pair[1]) not in firsts:
            sources.append(Source(name=each.name, kind="stereo", files=(each,)))
    return sources


def _middle(recording: Recording, pattern: str) -> str | None:
    """Return what the star of a pattern stands for in a file's name, ``None`` if the name does not fit."""
    before, _, after = pattern.partition("*")
    stem = recording.path.stem
    fits = stem.startswith(before) and stem.endswith(after) and len(stem) >= len(before) + len(after)
    return stem[len(before) : len(stem) - len(after)] if fits else None


def _key(recording: Recording, pattern: str) -> tuple[Path, str | None, str]:
    return recording.path.parent, _middle(recording, pattern), recording.path.suffix.lower()


def _with_own_names(sources: Sequence[Source]) -> list[Source]:
    """Return the sources with numbers behind the names that are there twice, upper and lower case alike."""
    taken: set[str] = set()
    named: list[Source] = []
    for source in sources:
        number, name = 1, source.name
        while str(name).casefold() in taken:
            number += 1
            name = source.name.with_name(f"{source.name.name}-{number}")
        taken.add(str(name).casefold())
        named.append(attrs.evolve(source, name=name))
    return named
