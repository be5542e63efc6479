"""Which names belong together: those of two files that are the channels of one dialogue.

A pair of patterns has one ``*`` each, which stands for what both names have in common. Suffixes are no part of a name.
Letters beside the ``*`` match in upper and lower case.
"""

from collections.abc import Hashable, Sequence
from pathlib import PurePath
from typing import TypeAlias

import attrs

from duplex.errors import DuplexError, UsageError
from duplex.process.names import distinct_names
from duplex.process.recordings import Recording
from duplex.process.streams import is_stream

__all__ = ["PAIRS", "Match", "Pair", "pair_up", "paired", "parse_pair"]

Pair: TypeAlias = tuple[str, str]
PAIRS: tuple[Pair, ...] = (
    ("*-left", "*-right"),
    ("*_left", "*_right"),
    ("*-A", "*-B"),
    ("*_A", "*_B"),
    ("*-user", "*-agent"),
    ("*_user", "*_agent"),
)
"""The patterns that are tried where none are given."""
_TWO = 2
RATE = 16000
"""Hertz, only to see how many channels a file has."""


@attrs.frozen
class Match:
    """What is at ``first``, by itself or together with what is at ``second``; ``common`` is the ``*`` of both."""

    first: int
    second: int | None = None
    common: str = ""


def parse_pair(patterns: Sequence[str]) -> Pair:
    """Return two patterns of names without suffixes: ``*-A.wav`` and ``*-A`` mean the same.

    :raises UsageError: if one has not exactly one ``*``, or both are the same
    """
    bare = tuple(PurePath(pattern).stem if PurePath(pattern).suffix else pattern for pattern in patterns)
    if len(bare) != _TWO or bare[0] == bare[1] or any(each.count("*") != 1 or each == "*" for each in bare):
        raise UsageError(f"{' and '.join(patterns)} are no pair of patterns; give two, such as '*-left' '*-right'")
    return bare[0], bare[1]


def pair_up(names: Sequence[tuple[Hashable, str]], pairs: Sequence[Pair]) -> list[Match]:
    """Return each of the names once, alone or with its partner, in order of the first.

    :param names: a group and a name each; partners are in the same group
    """
    partners: dict[int, tuple[int, str]] = {}
    taken: set[int] = set()
    for first_pattern, second_pattern in pairs:
        seconds = {
            (group, middle): index
            for index, (group, name) in enumerate(names)
            if index not in taken and (middle := _middle(name, second_pattern)) is not None
        }
        for index, (group, name) in enumerate(names):
            middle = None if index in taken else _middle(name, first_pattern)
            second = None if middle is None else seconds.get((group, middle))
            if middle is not None and second is not None and second not in taken and second != index:
                partners[index] = second, middle
                taken |= {index, second}
    alone = [Match(index) for index in range(len(names)) if index not in taken]
    together = [Match(index, *partner) for index, partner in partners.items()]
    return sorted((*alone, *together), key=lambda match: match.first)


def paired(found: Sequence[Recording], pair: Pair | None = None) -> list[tuple[PurePath, tuple[Recording, ...]]]:
    """Return each dialogue's name, no other's, and its files, one or two, in the order in which they were found.

    Files pair up within a folder and with the same suffix. Patterns that nobody gave pair only what is no stereo file.
    """
    names = [((each.path.parent, each.path.suffix.lower()), each.path.stem) for each in found]
    dialogues: list[tuple[list[PurePath], tuple[Recording, ...]]] = []
    for match in pair_up(names, PAIRS if pair is None else (pair,)):
        first = found[match.first]
        if match.second is not None and (pair is not None or _may_be_mono(first)):
            common = [first.name.with_name(match.common)] if match.common.strip(".") else []
            dialogues.append(([*common, first.name], (first, found[match.second])))
            continue
        alone = (match.first,) if match.second is None else (match.first, match.second)
        dialogues.extend(([found[index].name], (found[index],)) for index in alone)
    own = distinct_names([candidates for candidates, _ in dialogues])
    return [(name, files) for name, (_, files) in zip(own, dialogues, strict=True)]


def _may_be_mono(recording: Recording) -> bool:
    """Tell whether a file may be one side of a pair, also if it cannot be read: that is told when it is heard."""
    from duplex.audio.decoding import Decoder  # noqa: PLC0415 -- it imports PyAV

    if is_stream(recording.path):
        return True
    try:
        decoder = Decoder(recording.path, RATE, "left")
    except DuplexError:
        return True
    decoder.close()
    return decoder.channels == 1


def _middle(name: str, pattern: str) -> str | None:
    """Return what the star of a pattern stands for in a name, ``None`` if the name does not fit."""
    before, _, after = pattern.partition("*")
    end = len(name) - len(after)
    fits = end >= len(before) and name[: len(before)].lower() == before.lower() and name[end:].lower() == after.lower()
    return name[len(before) : end] if fits else None
