"""TextGrid: Praat's annotations, read by praatio. Each of two interval tiers is a speaker.

- Intervals without text, and those that forced aligners write for silence, are no speech.
- Of more than two interval tiers, those with words are meant, if they are two: aligners write one with words and one
  with phones for each speaker.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duplex.errors import UsageError
from duplex.extras import require

__all__ = ["read_textgrid"]

_SILENCE = frozenset(("", "sil", "sp", "<sil>", "<p:>", "<eps>", "#", "pau", "silence"))
_TWO = 2


def read_textgrid(path: Path) -> tuple[dict[str, NDArray[np.float64]], float]:
    """Return the times of speech, float64 ``[n, 2]`` in seconds, of each speaker, and the duration.

    :raises UsageError: if the file cannot be read, or is no TextGrid of two speakers
    :raises MissingDependencyError: if praatio is not installed
    """
    require("tables", "praatio", purpose=f"reading {path}")
    textgrid: Any = import_module("praatio.textgrid")
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, duplicateNamesMode="rename")
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; check the name and the folder") from None
    except Exception as error:  # noqa: BLE001 -- praatio raises whatever its parser stumbles on
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path} is no TextGrid that can be read ({reason}); save it with Praat again") from None
    tiers = [tier for tier in grid.tiers if isinstance(tier, textgrid.IntervalTier)]
    if len(tiers) > _TWO:
        tiers = [tier for tier in tiers if "word" in tier.name.lower()] or tiers
    speakers = {tier.name: _times(path, tier) for tier in tiers}
    return speakers, float(grid.maxTimestamp)


def _times(path: Path, tier: Any) -> NDArray[np.float64]:
    times = [(entry.start, entry.end) for entry in tier.entries if entry.label.strip().lower() not in _SILENCE]
    if any(start < 0 for start, _ in times):
        raise UsageError(f"{path} has negative times in the tier {tier.name}; let it begin at 0")
    return np.array(times, np.float64).reshape(-1, 2)
