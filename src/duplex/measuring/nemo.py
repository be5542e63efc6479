"""NeMo's manifests: ``{"audio_filepath": ..., "offset": ..., "duration": ...}`` a line.

``audio_filepath`` may be a list of two mono files. Stretches of two files whose names are a pair are one dialogue if
they begin at the same time. Turns are those of ``rttm_filepath`` or ``ctm_filepath``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from duplex.errors import UsageError
from duplex.measuring.entries import Entry, place_of
from duplex.measuring.lines import as_list, seconds
from duplex.measuring.source import Turns
from duplex.measuring.turns import read_dialogues
from duplex.parsing import shown

__all__ = ["is_nemo", "read_nemo"]

_AUDIO = "audio_filepath"
_TURNS = ("rttm_filepath", "ctm_filepath")
_TWO = 2


def is_nemo(fields: Mapping[str, Any]) -> bool:
    """Tell whether a line is an entry of NeMo's."""
    return _AUDIO in fields


def read_nemo(manifest: Path, fields: Mapping[str, Any], *, given_turns: bool) -> Entry:
    """Return an entry.

    :raises UsageError: if it lacks what it needs, or its turns cannot be read
    """
    named: Any = fields[_AUDIO]
    texts = as_list(named)
    if not (1 <= len(texts) <= _TWO and all(isinstance(text, str) and text for text in texts)):
        raise UsageError(f"{_AUDIO} is {shown(named)}; give the path of a recording, or those of two mono files")
    start = seconds("offset", str(fields.get("offset") or 0))
    duration: Any = fields.get("duration")
    end = None if duration is None else start + seconds("duration", str(duration))
    paths = tuple(place_of(manifest, text) for text in texts)
    stem, suffix = paths[0].stem, f"-{start:g}" if start else ""
    mono = len(paths) == 1
    entry = Entry(name=stem + suffix, stem=stem, suffix=suffix, paths=paths, start=start, end=end, mono=mono)
    if not given_turns:
        return entry
    return attrs.evolve(entry, turns=_turns(manifest, fields, entry))


def _turns(manifest: Path, fields: Mapping[str, Any], entry: Entry) -> Turns:
    text = next((str(fields[name]) for name in _TURNS if fields.get(name)), None)
    if text is None:
        raise UsageError(f"there is no {' or '.join(_TURNS)} to take turns from; leave --given-turns out")
    found = read_dialogues(place_of(manifest, text))
    meant = [each for each in found if each.label == entry.paths[0].stem] or found
    if len(meant) > 1:
        raise UsageError(f"{text} has {len(meant)} recordings, and none is called {entry.paths[0].stem}; name it so")
    if meant[0].problem is not None:
        raise meant[0].problem
    return cut_turns(meant[0].turns or {}, entry.start, entry.end)


def cut_turns(turns: Turns, start: float, end: float | None) -> Turns:
    """Return the turns between two times, with times that count from the first."""
    last = float("inf") if end is None else end
    return {
        name: tuple(
            (max(begin, start) - start, min(stop, last) - start)
            for begin, stop in times
            if stop > start and begin < last
        )
        for name, times in turns.items()
    }
