"""CTM: words with their times (NIST). The speakers of a recording are its channels.

A line is ``file channel start duration word [confidence]``; comments (``;;``) and empty lines are passed over, and
silences and noises that some recognizers write as words in angle or square brackets. Where each speaker is a file by
itself (``call-A``, ``call-B``), the pairs of names are those of recordings.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duplex.errors import UsageError
from duplex.measuring.lines import read_lines, seconds
from duplex.process.pairs import PAIRS, Pair, pair_up

__all__ = ["read_ctm"]

FIELDS = 5
_START, _DURATION, _WORD = 2, 3, 4
_BRACKETS = ("<", "[")


def read_ctm(path: Path, pairs: Sequence[Pair] = PAIRS) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return the times of words, float64 ``[n, 2]`` in seconds, of each channel of each recording, by their names.

    :raises UsageError: if the file cannot be read, or is no CTM
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for number, line in read_lines(path, "a CTM file"):
        fields = line.split()
        if fields[0].startswith(";;"):
            continue
        where = f"{path}, line {number}"
        if len(fields) < FIELDS:
            raise UsageError(
                f"{where}: {len(fields)} fields instead of {FIELDS} or more (file, channel, start, duration, word); "
                "mend the line"
            )
        start, duration = (seconds(where, fields[index]) for index in (_START, _DURATION))
        channel = found.setdefault(fields[0], {}).setdefault(fields[1], [])
        if not fields[_WORD].startswith(_BRACKETS):
            channel.append((start, start + duration))
    if not found:
        raise UsageError(f"{path} has no words; give a CTM file")
    return {
        recording: {name: np.array(sorted(times)).reshape(-1, 2) for name, times in sorted(channels.items())}
        for recording, channels in _joined(found, pairs).items()
    }


def _joined(
    found: dict[str, dict[str, list[tuple[float, float]]]], pairs: Sequence[Pair]
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return recordings of one channel whose names are a pair as one, its speakers called by their files."""
    alone = [label for label, channels in found.items() if len(channels) == 1]
    joined = {label: channels for label, channels in found.items() if len(channels) != 1}
    for match in pair_up([(None, label) for label in alone], pairs):
        label = alone[match.first]
        if match.second is None:
            joined[label] = found[label]
            continue
        other = alone[match.second]
        joined[match.common or label] = {each: next(iter(found[each].values())) for each in (label, other)}
    return joined
