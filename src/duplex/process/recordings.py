"""Which recordings are meant, and how the folder of results of each is called.

Rules:

- A folder stands for all recordings in it and below, a pattern (``*``, ``?``, ``[...]``, ``**``) for what matches it.
  Hidden files, the output folder and folders of results are not searched.
- A folder of results is named by the recording's path relative to the folder given, without its suffix; with it where
  two would have the same name; by the path below what all inputs have in common where they still would; and numbered
  where nothing else helps. Upper and lower case do not tell names apart, since on many disks they do not.
- A recording that is given twice is processed once.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

import attrs

from duplex.errors import UsageError
from duplex.results.files import RESULT_FILES, RUN
from duplex.transports.files import AUDIO_SUFFIXES

__all__ = ["Recording", "absolute", "find_recordings"]


@attrs.frozen
class Recording:
    """A recording, and the ``name`` of its folder of results relative to the output folder."""

    path: Path
    name: PurePath


@attrs.frozen
class _Found:
    path: Path
    relative: PurePath


def find_recordings(
    inputs: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None
) -> list[Recording]:
    """Return the recordings that files, folders and patterns stand for, each with a name of its own.

    What is not there is returned as it was given: processing it tells what is wrong, and does not stop the others.
    ``out``, where results go, is not searched.

    :raises UsageError: if no input is given
    """
    output = None if out is None else absolute(Path(out))
    found: dict[Path, _Found] = {}
    for given in inputs:
        for item in _expand(Path(given), output):
            found.setdefault(absolute(item.path), item)
    if not found:
        raise UsageError("there is nothing to process; give recordings, or folders with recordings")
    return [Recording(item.path, name) for item, name in zip(found.values(), _names(list(found.values())), strict=True)]


def absolute(path: Path) -> Path:
    """Return where a path leads, without following links: a link is a recording of its own name."""
    return Path(os.path.abspath(path))  # noqa: PTH100 -- Path.resolve follows links, Path.absolute keeps ".."


def _expand(given: Path, output: Path | None) -> Iterator[_Found]:
    """Yield what one input stands for; itself, if nothing is found."""
    items = sorted(_search(given, output), key=lambda item: item.path)
    yield from items or [_Found(given, PurePath(given.name or "recording"))]


def _search(given: Path, output: Path | None) -> Iterator[_Found]:
    try:
        if given.is_dir():
            for path in _walk(given, output):
                yield _Found(path, path.relative_to(given))
        elif not given.exists() and glob.has_magic(str(given)):
            yield from _match(given, output)
    except (OSError, ValueError):  # a name that no file can have, or one that may not be looked at
        return


def _match(pattern: Path, output: Path | None) -> Iterator[_Found]:
    """Yield what a pattern stands for; names are relative to its folders before the first wildcard."""
    fixed: list[str] = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    base = Path(*fixed)
    for name in glob.iglob(str(pattern), recursive=True):  # noqa: PTH207 -- pathlib's takes no absolute patterns
        path = Path(name)
        if path.is_dir():
            continue
        if path.suffix.lower() in AUDIO_SUFFIXES and not _is_result(path, output):
            yield _Found(path, path.relative_to(base))


def _walk(folder: Path, output: Path | None) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        above = Path(parent)
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_output(above / name, output)]
        for name in names:
            path = above / name
            if path.suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".") and not _is_result(path, output):
                yield path


def _is_output(folder: Path, output: Path | None) -> bool:
    return output is not None and absolute(folder) == output


def _is_result(path: Path, output: Path | None) -> bool:
    """Tell whether a file is a result of an earlier run, not a recording."""
    inside = output is not None and absolute(path).is_relative_to(output)
    return path.name in RESULT_FILES and (inside or (path.parent / RUN).is_file())


def _names(found: list[_Found]) -> list[PurePath]:
    candidates = [list(_candidates(item, common)) for common in [_common_folder(found)] for item in found]
    levels = [0] * len(found)
    while True:
        names = [ladder[level] for ladder, level in zip(candidates, levels, strict=True)]
        counts = Counter(str(name).casefold() for name in names)
        clashing = [
            index
            for index, name in enumerate(names)
            if counts[str(name).casefold()] > 1 and levels[index] + 1 < len(candidates[index])
        ]
        if not clashing:
            return _numbered(names)
        for index in clashing:
            levels[index] += 1


def _candidates(item: _Found, common: str | None) -> Iterator[PurePath]:
    """Yield names, the preferred one first."""
    yield _without_suffix(item.relative)
    yield item.relative
    if common is not None:
        below = PurePath(os.path.relpath(item.path, common))
        yield _without_suffix(below)
        yield below


def _common_folder(found: list[_Found]) -> str | None:
    try:
        return os.path.commonpath([absolute(item.path).parent for item in found])
    except ValueError:  # on several drives
        return None


def _without_suffix(name: PurePath) -> PurePath:
    """Leave the suffix out, unless the rest would be no name (``...wav``) or that of a result file."""
    bare, suffix = os.path.splitext(name.name)  # noqa: PTH122 -- pathlib's versions differ on names that begin with dots
    return name if not suffix.strip(".") or bare in RESULT_FILES else name.with_name(bare)


def _numbered(names: list[PurePath]) -> list[PurePath]:
    taken: set[str] = set()
    unique: list[PurePath] = []
    for name in names:
        number, candidate = 1, name
        while str(candidate).casefold() in taken:
            number += 1
            candidate = name.with_name(f"{name.name}-{number}")
        taken.add(str(candidate).casefold())
        unique.append(candidate)
    return unique
