"""Files of who speaks when, in place of a detector: each recording in them is a dialogue."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from duplex.errors import UsageError
from duplex.measuring.ctm import read_ctm
from duplex.measuring.rttm import read_rttm
from duplex.measuring.source import Source, Turns, failed, safe_name
from duplex.measuring.textgrid import read_textgrid
from duplex.process.pairs import PAIRS, Pair
from duplex.process.recordings import Recording

__all__ = ["TURN_SUFFIXES", "as_turns", "dialogue_of_turns", "read_dialogues"]

TURN_SUFFIXES = frozenset((".rttm", ".ctm", ".textgrid"))
_TWO = 2


def read_dialogues(path: Path, pairs: Sequence[Pair] = PAIRS) -> list[Source]:
    """Return a dialogue for each recording in a file.

    :raises UsageError: if the file cannot be read
    :raises MissingDependencyError: if what reads it is not installed
    """
    if path.suffix.lower() == ".textgrid":
        speakers, duration = read_textgrid(path)
        return [dialogue_of_turns(path, path.stem, as_turns(speakers), duration, name=PurePath(path.stem))]
    read = read_rttm(path) if path.suffix.lower() == ".rttm" else read_ctm(path, pairs)
    return [dialogue_of_turns(path, label, as_turns(speakers)) for label, speakers in read.items()]


def as_turns(speakers: Mapping[str, NDArray[np.float64]]) -> Turns:
    """Return times as they are kept with a dialogue."""
    return {name: tuple((start, end) for start, end in times.tolist()) for name, times in speakers.items()}


def dialogue_of_turns(
    path: Path, label: str, turns: Turns, duration: float | None = None, *, name: PurePath | None = None
) -> Source:
    """Return the dialogue of two speakers whose times are known; one that cannot be measured, if they are not two."""
    if len(turns) != _TWO:
        named = ", ".join(turns) or "none"
        problem = UsageError(f"{path} has {len(turns)} speakers in {label} ({named}); give one with two")
        return failed(path, label, problem)
    first, second = turns
    own = name or safe_name(label)
    return Source(
        name=own,
        kind="turns",
        files=(Recording(path, own),),
        speakers=(first, second),
        turns=turns,
        end=duration,
        label=label,
    )
