"""Plain lists: the path of a recording a line, or two with a tab between, which are the sides of one dialogue."""

from pathlib import Path

from duplex.errors import UsageError
from duplex.measuring.lines import read_lines
from duplex.measuring.source import Source, safe_name
from duplex.process.recordings import Recording

__all__ = ["LIST_SUFFIXES", "read_list"]

LIST_SUFFIXES = frozenset((".txt", ".lst", ".list"))
_TWO = 2


def read_list(path: Path) -> tuple[list[Path], list[Source]]:
    """Return the recordings that stand alone on their lines, and the pairs. Lines that begin with ``#`` are comments.

    :raises UsageError: if the list cannot be read, is empty, or has more than two paths on a line
    """
    alone: list[Path] = []
    pairs: list[Source] = []
    for number, line in read_lines(path, "a list of recordings"):
        if line.startswith("#"):
            continue
        paths = [path.parent / field.strip() for field in line.split("\t") if field.strip()]
        if len(paths) > _TWO:
            raise UsageError(f"{path}, line {number}: {len(paths)} paths; give one, or two with a tab between")
        if len(paths) == 1:
            alone.append(paths[0])
        else:
            name = safe_name(paths[0].stem)
            pairs.append(Source(name=name, kind="pair", files=tuple(Recording(each, name) for each in paths)))
    if not (alone or pairs):
        raise UsageError(f"{path} names no recording; write a path a line")
    return alone, pairs
