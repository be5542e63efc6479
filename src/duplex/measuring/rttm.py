"""RTTM: who speaks when, as diarization tools and corpora write it (NIST, Rich Transcription 2009).

A line is ``SPEAKER file channel start duration <NA> <NA> name <NA> <NA>``; other types of line are passed over, and so
are comments (``;;``) and empty lines. One file may have several recordings.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duplex.errors import UsageError

__all__ = ["read_rttm"]

FIELDS = 8
LARGEST = 64 << 20
_START, _DURATION, _NAME = 3, 4, 7


def read_rttm(path: Path) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return the times of speech, float64 ``[n, 2]`` in seconds, of each speaker of each recording, by their names.

    :raises UsageError: if the file cannot be read, is no RTTM, or names no speaker
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for number, line in enumerate(_lines(path), start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        if len(fields) < FIELDS:
            raise UsageError(f"{path}, line {number}: {len(fields)} fields instead of {FIELDS} or more; mend the line")
        start, duration = (_seconds(path, number, fields[index]) for index in (_START, _DURATION))
        speakers = found.setdefault(fields[1], {})
        speakers.setdefault(fields[_NAME], []).append((start, start + duration))
    if not found:
        raise UsageError(f"{path} has no line that begins with SPEAKER; give an RTTM file")
    return {
        recording: {name: np.array(times) for name, times in sorted(speakers.items())}
        for recording, speakers in found.items()
    }


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} is larger than {LARGEST >> 20} MiB; cut it into a file for each recording")
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text; give an RTTM file in UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None


def _seconds(path: Path, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UsageError(f"{path}, line {number}: {text!r} is no time; write seconds from 0 on") from None
    return value
