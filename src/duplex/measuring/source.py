"""One dialogue: the files in which its two speakers are heard, or the times at which they speak."""

import contextlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Literal, TypeAlias

import attrs

from duplex.errors import DuplexError
from duplex.measuring.dialogue import SPEAKERS
from duplex.process.names import alike, harmless
from duplex.process.recordings import Recording
from duplex.process.streams import spooled

__all__ = ["SIDES", "Side", "Source", "Turns", "failed", "safe_name", "with_copies", "with_own_names"]

SIDES = ("user", "agent")
Side: TypeAlias = Literal["mono", "left", "right"]
Turns: TypeAlias = Mapping[str, tuple[tuple[float, float], ...]]
"""The times at which each speaker speaks, starts and ends in seconds, by their names."""


@attrs.frozen(kw_only=True)
class Source:
    """A dialogue, and the ``name`` of its results.

    - ``stereo``: one file, a speaker on each of two channels
    - ``pair``: a file for each speaker, who is heard on its side of ``sides``
    - ``turns``: the times of speech are known, and nothing is listened to; the file is where they were found
    """

    name: PurePath
    kind: Literal["stereo", "pair", "turns"]
    files: tuple[Recording, ...]
    speakers: tuple[str, str] = SPEAKERS
    sides: tuple[Side, Side] = ("mono", "mono")
    start: float = 0.0
    """Seconds in the files at which the dialogue begins, and at which it ends."""
    end: float | None = None
    turns: Turns | None = None
    label: str | None = None
    """The dialogue's name in a file that has several."""
    problem: DuplexError | None = None
    """What was wrong with it before it was measured."""


@contextlib.contextmanager
def with_copies(sources: Sequence[Source]) -> Generator[list[Source]]:
    """Give the same dialogues with the ``content`` of pipes copied to files. Blocking, until every pipe has ended.

    :raises AudioFileError: if there is no room for a copy
    """
    with spooled(file for source in sources for file in source.files) as copies:
        files = iter(copies)
        yield [attrs.evolve(source, files=tuple(next(files) for _ in source.files)) for source in sources]


def safe_name(label: str) -> PurePath:
    """Return a name for results, made of what a dialogue is called elsewhere: no folders, nothing hidden."""
    return PurePath(label.replace("/", "_").replace("\\", "_").replace("\0", "_").strip(". ") or "recording")


def failed(path: Path, name: PurePath | str, problem: DuplexError) -> Source:
    """Return a dialogue that cannot be measured, so that those beside it are."""
    safe = safe_name(str(name))
    return Source(name=safe, kind="turns", files=(Recording(path, safe),), label=str(name), problem=problem)


def with_own_names(sources: Iterable[Source]) -> list[Source]:
    """Return the sources with numbers behind the names that are there twice; see :mod:`duplex.process.names`."""
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    named: list[Source] = []
    for source in sources:
        own = name = harmless(source.name)
        plain = alike(own)
        while alike(name) in taken:
            numbers[plain] = numbers.get(plain, 1) + 1
            name = own.with_name(f"{own.name}-{numbers[plain]}")
        taken.add(alike(name))
        named.append(attrs.evolve(source, name=name))
    return named
