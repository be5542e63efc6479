"""RTTM: who speaks when, as diarization tools and corpora write it (NIST, Rich Transcription 2009).

A line is ``SPEAKER file channel start duration <NA> <NA> name <NA> <NA>``; other types of line are passed over, and so
are comments (``;;``) and empty lines. One file may have several recordings. Lines may be in any order, and those of one
speaker may overlap.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duplex.errors import UsageError
from duplex.measuring.lines import read_lines, seconds

__all__ = ["read_rttm"]

FIELDS = 8
_START, _DURATION, _NAME = 3, 4, 7


def read_rttm(path: Path) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return the times of speech, float64 ``[n, 2]`` in seconds, of each speaker of each recording, by their names.

    :raises UsageError: if the file cannot be read, is no RTTM, or names no speaker
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for number, line in read_lines(path, "an RTTM file"):
        fields = line.split()
        if fields[0] != "SPEAKER":
            continue
        where = f"{path}, line {number}"
        if len(fields) < FIELDS:
            raise UsageError(f"{where}: {len(fields)} fields instead of {FIELDS} or more; mend the line")
        start, duration = (seconds(where, fields[index]) for index in (_START, _DURATION))
        speakers = found.setdefault(fields[1], {})
        speakers.setdefault(fields[_NAME], []).append((start, start + duration))
    if not found:
        raise UsageError(f"{path} has no line that begins with SPEAKER; give an RTTM file")
    return {
        recording: {name: np.array(sorted(times)) for name, times in sorted(speakers.items())}
        for recording, speakers in found.items()
    }
