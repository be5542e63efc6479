"""Which names belong together: those of two channels that are one dialogue.

A pair of patterns has one ``*`` each, which stands for what both names have in common. Suffixes are no part of a name.
Letters beside the ``*`` match in upper and lower case.
"""

from collections.abc import Hashable, Sequence
from pathlib import PurePath
from typing import TypeAlias

import attrs

from duplex.errors import UsageError

__all__ = ["PAIRS", "Match", "Pair", "pair_up", "parse_pair"]

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


def _middle(name: str, pattern: str) -> str | None:
    """Return what the star of a pattern stands for in a name, ``None`` if the name does not fit."""
    before, _, after = pattern.partition("*")
    end = len(name) - len(after)
    fits = end >= len(before) and name[: len(before)].lower() == before.lower() and name[end:].lower() == after.lower()
    return name[len(before) : end] if fits else None
