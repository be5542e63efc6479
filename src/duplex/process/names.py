"""Names of results that are names of different files on every disk, whatever the system that they are made on.

Rules:

- Names that differ in upper and lower case alone, in how an accent is written (as one character or two), or in dots and
  spaces at the end are one: on disks of macOS and Windows they are one file.
- What is a device on Windows, with whatever suffix (``con``, ``NUL.wav``), has an underscore before it.
- Any other name stays as it is, also its accents and its dots.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

__all__ = ["alike", "distinct_names", "harmless"]

_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{number}" for port in ("COM", "LPT") for number in "123456789\xb9\xb2\xb3"
}


def distinct_names(candidates: Sequence[Sequence[PurePath]]) -> list[PurePath]:
    """Return a name of each, the first of its candidates that no other has; numbered where nothing else helps."""
    ladders = [[harmless(name) for name in ladder] for ladder in candidates]
    levels = [0] * len(ladders)
    while True:
        names = [ladder[level] for ladder, level in zip(ladders, levels, strict=True)]
        keys = [alike(name) for name in names]
        counts = Counter(keys)
        clashing = [
            index for index, key in enumerate(keys) if counts[key] > 1 and levels[index] + 1 < len(ladders[index])
        ]
        if not clashing:
            return _numbered(names)
        for index in clashing:
            levels[index] += 1


def alike(name: PurePath) -> str:
    """Return what is the same for all names that some disk takes for one."""
    return "/".join(_folded(part) for part in name.parts)


def harmless(name: PurePath) -> PurePath:
    """Return a name that is a file's on every system: this one, unless a part of it is a device on Windows."""
    if not any(map(_is_device, name.parts)):
        return name
    return PurePath(*(f"_{part}" if _is_device(part) else part for part in name.parts))


def _folded(part: str) -> str:
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", part).casefold())
    return folded.rstrip(". ") or folded


def _is_device(part: str) -> bool:
    return part.partition(".")[0].rstrip(" ").upper() in _DEVICES


def _numbered(names: list[PurePath]) -> list[PurePath]:
    taken: set[str] = set()
    unique: list[PurePath] = []
    for name in names:
        number, candidate = 1, name
        while alike(candidate) in taken:
            number += 1
            candidate = name.with_name(f"{name.name}-{number}")
        taken.add(alike(candidate))
        unique.append(candidate)
    return unique
