"""Which recordings are meant, and how the folder of results of each is called.

Rules:

- A folder stands for all recordings in it and below, links to folders included; a pattern (``*``, ``?``, ``[...]``,
  ``**``) for what matches it. Hidden files, the output folder and folders of results are not searched. Which files are
  recordings the suffix tells; any other has to be given by its own name.
- ``-`` and ``/dev/stdin`` are the standard input, whose folder of results is called ``stdin``.
- A folder of results is named by the recording's path relative to the folder given, without its suffix; with it where
  two would have the same name; by the path below what all inputs have in common where they still would; and numbered
  where nothing else helps. What tells names apart, and which no file can have, is in :mod:`duplex.process.names`.
- A recording that is given twice is processed once.
"""

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePath

import attrs

from duplex.audio.folders import AUDIO_SUFFIXES, find_audio
from duplex.audio.pcm import UserChannel
from duplex.errors import UsageError
from duplex.process.names import distinct_names
from duplex.results.files import RESULT_FILES, RUN

__all__ = ["STANDARD_INPUT", "Recording", "absolute", "find_recordings"]

STANDARD_INPUT = Path("/dev/stdin")
PassedOver = Callable[[Path], None]


@attrs.frozen
class Recording:
    """A recording, and the ``name`` of its folder of results relative to the output folder.

    ``content`` is where its bytes lie: a copy, if ``path`` is a pipe; see :func:`duplex.process.spooled`.
    ``side`` is the channel that is the user of this one, ``None`` for that of the recipe; ``other`` is the file of the
    other speaker, where each has one. ``origin`` is what results call the recording, if ``path`` is a copy of it: an
    address, a member of an archive. ``stretch`` is what is heard of it, from and to seconds, ``None`` for all.
    """

    path: Path
    name: PurePath
    content: Path = attrs.field(default=attrs.Factory(lambda self: self.path, takes_self=True))
    side: UserChannel | None = None
    other: "Recording | None" = None
    origin: str | None = None
    stretch: tuple[float, float | None] | None = None

    @property
    def place(self) -> str:
        """What ``run.json`` calls the recording."""
        return str(absolute(self.path)) if self.origin is None else self.origin


@attrs.frozen
class _Found:
    path: Path
    relative: PurePath


def find_recordings(
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    passed_over: PassedOver | None = None,
) -> list[Recording]:
    """Return the recordings that files, folders and patterns stand for, each with a name of its own.

    What is not there is returned as it was given: processing it tells what is wrong, and does not stop the others.
    ``out``, where results go, is not searched. ``passed_over`` is told each file that was found in a folder or by a
    pattern and is no recording by its suffix, and each folder that could not be searched.

    :raises UsageError: if no input is given
    """
    output = None if out is None else absolute(Path(out))
    found: dict[Path, _Found] = {}
    for given in inputs:
        for item in _expand(given, output, passed_over):
            found.setdefault(absolute(item.path), item)
    if not found:
        raise UsageError("there is nothing to process; give recordings, or folders with recordings")
    return [Recording(item.path, name) for item, name in zip(found.values(), _names(list(found.values())), strict=True)]


def absolute(path: Path) -> Path:
    """Return where a path leads, without following links: a link is a recording of its own name."""
    return Path(os.path.abspath(path))  # noqa: PTH100 -- Path.resolve follows links, Path.absolute keeps ".."


def _expand(given: str | os.PathLike[str], output: Path | None, passed_over: PassedOver | None) -> Iterator[_Found]:
    """Yield what one input stands for; itself, if nothing is found."""
    path = Path(given)
    if os.fspath(given) == "-" or path == STANDARD_INPUT:  # `./-` is a file of that name, but the same path
        yield _Found(STANDARD_INPUT, PurePath("stdin"))
        return
    items = sorted(_search(path, output, passed_over), key=lambda item: item.path)
    yield from items or [_Found(path, PurePath(path.name or "recording"))]


def _search(given: Path, output: Path | None, passed_over: PassedOver | None) -> Iterator[_Found]:
    try:
        if given.is_dir():
            leave_out = partial(_is_left_out, output=output)
            for path in find_audio(given, passed_over=passed_over, leave_out=leave_out):
                yield _Found(path, path.relative_to(given))
        elif not given.exists() and glob.has_magic(str(given)):
            yield from _match(given, output, passed_over)
    except (OSError, ValueError):  # a name that no file can have, or one that may not be looked at
        return


def _match(pattern: Path, output: Path | None, passed_over: PassedOver | None) -> Iterator[_Found]:
    """Yield what a pattern stands for; names are relative to its folders before the first wildcard."""
    fixed: list[str] = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    base = Path(*fixed)
    matches = [Path(name) for name in glob.iglob(str(pattern), recursive=True)]  # noqa: PTH207 -- pathlib's takes no absolute patterns
    ways: dict[str, Path] = {}
    for path in sorted(matches, key=lambda path: (len(path.parts), path)):
        # Links that lead in a circle make more and longer ways to the same folder.
        way = ways.setdefault(os.path.realpath(path.parent), path.parent)
        if path.is_dir() or way != path.parent or _is_left_out(path, output=output):
            continue
        if path.suffix.lower() in AUDIO_SUFFIXES:
            yield _Found(path, path.relative_to(base))
        elif passed_over is not None:
            passed_over(path)


def _is_left_out(path: Path, *, output: Path | None) -> bool:
    """Tell whether something is the output folder, or a result of an earlier run."""
    if output is not None and os.path.realpath(path) == os.path.realpath(output):
        return True
    inside = output is not None and absolute(path).is_relative_to(output)
    return path.name in RESULT_FILES and (inside or (path.parent / RUN).is_file())


def _names(found: list[_Found]) -> list[PurePath]:
    common = _common_folder(found)
    return distinct_names([list(_candidates(item, common)) for item in found])


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
