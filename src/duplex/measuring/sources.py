"""Which dialogues are meant, and where each speaker's channel is.

Rules, beside those of :mod:`duplex.process.recordings` on folders, patterns, pipes and names:

- A folder of results (``dialogue.wav`` beside ``run.json``) and a server's recording (beside ``events.jsonl``) are one
  dialogue, of ``user`` and ``agent``, named by the folder.
- Files whose names fit a pair of patterns and are alike but for that are the two channels of one dialogue, named by
  what is alike; see :mod:`duplex.process.pairs`. Patterns that nobody gave pair only what is no stereo file.
- Times of turns (RTTM, CTM, TextGrid) and manifests are read if they are given by name or by a pattern. In a folder
  they are passed over, as they tell of recordings that may lie beside them; but a folder with ``wav.scp`` is Kaldi's.
- A list (``.txt``, ``.lst``) has a recording a line, or two with a tab between: a pair. Paths are relative to the list.
- Any other recording has the first speaker on its first channel, and the second on its second.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from duplex.audio.folders import walk
from duplex.errors import DuplexError
from duplex.measuring.kaldi import WAV_SCP
from duplex.measuring.lists import LIST_SUFFIXES, read_list
from duplex.measuring.manifests import is_manifest, read_manifest
from duplex.measuring.source import SIDES, Source, failed, with_own_names
from duplex.measuring.turns import TURN_SUFFIXES, read_dialogues
from duplex.process.pairs import PAIRS, Pair, paired
from duplex.process.recordings import PassedOver, Recording, find_recordings
from duplex.results.files import DIALOGUE, EVENTS, RUN

__all__ = ["find_dialogues", "paired_sources", "tables_named"]


def find_dialogues(
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    pair: Pair | None = None,
    given_turns: bool = False,
    passed_over: PassedOver | None = None,
) -> list[Source]:
    """Return the dialogues that files, folders, patterns and manifests stand for, each with a name of its own.

    What is not there is returned as it was given: measuring it tells what is wrong, and does not stop the others.

    :param pair: patterns of the names of two mono files that are one dialogue, in place of the usual ones
    :param given_turns: takes the times of speech that a manifest has, in place of a detector's
    :raises UsageError: if no input is given
    """
    sources: list[Source] = []
    others: list[str | os.PathLike[str]] = []
    for given in inputs:
        matched = tables_named(given)
        if matched is None:
            others.append(given)
        for path in matched or ():
            sources += _of_table(path, PAIRS if pair is None else (pair,), given_turns=given_turns, out=out)
    if others or not sources:
        sources += _of_recordings(others, out, pair, passed_over)
    return with_own_names(sources)


def tables_named(given: str | os.PathLike[str]) -> list[Path] | None:
    """Return the tables that an input names, ``None`` if it is something else."""
    path = Path(given)
    try:
        if path.is_dir():
            return [path / WAV_SCP] if (path / WAV_SCP).is_file() else None
        if not _is_table(path):
            return None
        if not path.exists() and glob.has_magic(str(path)):
            return sorted(Path(name) for name in glob.iglob(str(path), recursive=True)) or [path]  # noqa: PTH207 -- pathlib's takes no absolute patterns
    except (OSError, ValueError):  # a name that no file can have
        return None
    return [path]


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TURN_SUFFIXES | LIST_SUFFIXES or is_manifest(path)


def _of_table(
    path: Path, pairs: Sequence[Pair], *, given_turns: bool, out: str | os.PathLike[str] | None
) -> Iterator[Source]:
    """Yield the dialogues of a table; one that cannot be measured, if it cannot be read."""
    try:
        if path.suffix.lower() in TURN_SUFFIXES:
            yield from read_dialogues(path)
        elif path.suffix.lower() in LIST_SUFFIXES:
            alone, together = read_list(path)
            yield from together
            yield from _of_recordings(alone, out, pairs[0] if len(pairs) == 1 else None, None) if alone else ()
        else:
            yield from read_manifest(path, pairs, given_turns=given_turns)
    except DuplexError as problem:
        yield failed(path, path.stem, problem)


def _of_recordings(
    given: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None,
    pair: Pair | None,
    passed_over: PassedOver | None,
) -> list[Source]:
    results = [folder for each in given for folder in _folders_of_results(Path(each), out)]
    inside: dict[str, Path] = {}
    for folder in results:
        inside.setdefault(os.path.realpath(folder), folder)  # given twice, or links lead to it
    left = [each for each in given if os.path.realpath(each) not in inside]
    found = find_recordings(left, out, passed_over=passed_over) if left or not results else []
    found = [each for each in found if os.path.realpath(each.path.parent) not in inside]
    # A folder with nothing but results is given back as it is, for want of recordings in it; it is no failure.
    found = [each for each in found if not any(folder.is_relative_to(each.path) for folder in results)]
    return [_of_folder(folder, given) for folder in inside.values()] + paired_sources(found, pair)


def _folders_of_results(given: Path, out: str | os.PathLike[str] | None) -> list[Path]:
    """Return the folders with a dialogue of user and agent, in a folder and below."""
    try:
        if not given.is_dir():
            return []
    except (OSError, ValueError):  # a name that no file can have, or one that may not be looked at
        return []
    output = None if out is None else os.path.realpath(out)
    return sorted(
        folder
        for folder, names in walk(given)
        if DIALOGUE in names
        and (RUN in names or EVENTS in names)
        and (output is None or not Path(os.path.realpath(folder)).is_relative_to(output))
    )


def _of_folder(folder: Path, given: Sequence[str | os.PathLike[str]]) -> Source:
    roots = [Path(each) for each in given if folder != Path(each) and folder.is_relative_to(each)]
    name = folder.relative_to(roots[0]) if roots else PurePath(folder.resolve().name or "dialogue")
    return Source(name=name, kind="stereo", files=(Recording(folder / DIALOGUE, name),), speakers=SIDES)


def paired_sources(found: Sequence[Recording], pair: Pair | None) -> list[Source]:
    """Return pairs, and what is none, in the order in which they were found."""
    return [
        Source(name=name, kind="pair" if len(files) > 1 else "stereo", files=files)
        for name, files in paired(found, pair)
    ]
