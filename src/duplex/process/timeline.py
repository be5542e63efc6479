"""A picture of a dialogue: both voices on one time line, with each side's words where they are said.

It is made from a finished folder of results. The user's lane is above, the agent's below, ten seconds a row; what is
shaded is speech, by the events of the conversation.
"""

import math
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.atomic import atomic_path
from duplex.conversation.transcript import Chunk
from duplex.errors import UsageError
from duplex.parsing import parse_json
from duplex.results.files import DIALOGUE, EVENTS, TRANSCRIPT, USER_TRANSCRIPT, read_run
from duplex.results.plotting import new_figure, require_matplotlib

__all__ = ["Timeline", "draw_timeline", "read_timeline"]

Float32 = NDArray[np.float32]
SECONDS_A_ROW = 10.0
MAX_SECONDS = 600.0
FORMATS = (".png", ".svg", ".pdf")
BIN = 0.01
"""Seconds of sound that are one stroke of a lane."""
COLOURS = {"user": "#2a6fb0", "agent": "#c8571b"}
ROWS = {"user": 1.0, "agent": -1.0}
"""The middle of each lane."""
SPEECH = {
    "UserSpeechStarted": ("user", True),
    "UserSpeechStopped": ("user", False),
    "AgentSpeechStarted": ("agent", True),
    "AgentSpeechStopped": ("agent", False),
}


@attrs.frozen(kw_only=True, eq=False)
class Timeline:
    """What is drawn: peaks of each bin, stretches of speech, and words; times in seconds of the recording."""

    peaks: dict[str, Float32]
    """Of ``user`` and ``agent``, float32 ``[bins]``, 0 to 1."""
    speech: list[tuple[str, float, float]]
    words: Mapping[str, Sequence[Chunk]]
    """Of ``user`` and ``agent``; without a transcript none."""
    start: float
    end: float


def draw_timeline(folder: Path, out: Path, *, start: float = 0.0, end: float | None = None) -> None:
    """Draw the dialogue of a finished folder of results, or a stretch of it from ``start`` to ``end`` seconds.

    :param out: a name that ends in ``.png``, ``.svg`` or ``.pdf``
    :raises UsageError: if there are no finished results, the name ends in something else, or there is nothing within
        the stretch, or more than ten minutes
    :raises OutputError: if the picture cannot be written
    :raises MissingDependencyError: if matplotlib is not installed
    """
    if out.suffix.lower() not in FORMATS:
        raise UsageError(f"{out.name} is no name of a picture; let it end in {', '.join(FORMATS)}")
    require_matplotlib()
    timeline = read_timeline(folder, start, end)
    rows = math.ceil((timeline.end - timeline.start) / SECONDS_A_ROW)
    figure = new_figure(11, 0.3 + 1.5 * rows)
    for row, axes in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
        _draw_row(axes, timeline, timeline.start + row * SECONDS_A_ROW)
    with atomic_path(out) as part:
        figure.savefig(part, format=out.suffix[1:].lower(), dpi=120)


def read_timeline(folder: Path, start: float, end: float | None) -> Timeline:
    """Return what is to be drawn of a folder of results; its errors are those of :func:`draw_timeline`."""
    if read_run(folder) is None:
        raise UsageError(f"{folder} holds no finished results; make them with: duplex process")
    try:
        with wave.open(str(folder / DIALOGUE)) as file:
            rate = file.getframerate()
            length = file.getnframes() / rate
            end = _checked_end(start, end, length)
            file.setpos(round(start * rate))
            samples = np.frombuffer(file.readframes(round((end - start) * rate)), np.int16).reshape(-1, 2)
        words = {"user": _words(folder / USER_TRANSCRIPT), "agent": _words(folder / TRANSCRIPT)}
        events: list[dict[str, Any]] = [parse_json(line) for line in (folder / EVENTS).read_bytes().splitlines()]
    except (OSError, EOFError, wave.Error, KeyError, ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{folder} has damaged results ({error}); make them again with: duplex process --force"
        ) from error
    peaks = {
        name: _peaks(samples[:, index].astype(np.float32) / np.float32(32768), round(BIN * rate))
        for index, name in enumerate(ROWS)
    }
    return Timeline(peaks=peaks, speech=_speech(events, length), words=words, start=start, end=end)


def _words(path: Path) -> list[Chunk]:
    """Return the words of a transcript, none if it was not made."""
    return parse_json(path.read_bytes())["chunks"] if path.is_file() else []


def _checked_end(start: float, end: float | None, length: float) -> float:
    end = length if end is None else min(end, length)
    if not 0 <= start < end:
        raise UsageError(f"there is nothing from {start:g} to {end:g} s; the dialogue is {length:.2f} s long")
    if end - start > MAX_SECONDS:
        raise UsageError(
            f"{end - start:.0f} s are too much for a picture; choose up to {MAX_SECONDS:.0f} s with --start and --end"
        )
    return end


def _peaks(samples: Float32, width: int) -> Float32:
    return np.abs(np.pad(samples, (0, -len(samples) % width))).reshape(-1, width).max(axis=1)


def _speech(events: Sequence[dict[str, Any]], length: float) -> list[tuple[str, float, float]]:
    """Return who speaks from when to when."""
    found: list[tuple[str, float, float]] = []
    since: dict[str, float] = {}
    for event in events:
        who, begins = SPEECH.get(event["type"], ("", False))
        if begins:
            since[who] = event["at"]
        elif who in since:
            found.append((who, since.pop(who), event["at"]))
    return found + [(who, at, length) for who, at in since.items()]


def _draw_row(axes: Any, timeline: Timeline, start: float) -> None:
    end = start + SECONDS_A_ROW
    for name, middle in ROWS.items():
        peaks = timeline.peaks[name]
        at = timeline.start + BIN * (np.arange(len(peaks)) + 0.5)
        shown = (at >= start) & (at < end)
        height = np.sqrt(peaks[shown])  # quiet speech stays visible
        axes.fill_between(at[shown], middle - height, middle + height, color=COLOURS[name], linewidth=0)
        axes.text(start - 0.08, middle, name, ha="right", va="center", fontsize=9, color=COLOURS[name])
    for name, since, until in timeline.speech:
        left, right = max(since, start), min(until, end)
        if left < right:
            axes.fill_between(
                [left, right], ROWS[name] - 0.95, ROWS[name] + 0.95, color=COLOURS[name], alpha=0.12, lw=0
            )
    for name, words in timeline.words.items():
        for word in words:
            at, text = word["timestamp"][0], word["text"]
            if start <= at < end and timeline.start <= at < timeline.end:
                _write(axes, at, text, name)
    axes.set(xlim=(start, end), ylim=(-3.4, 3.4 if timeline.words["user"] else 2.1), yticks=[])
    axes.tick_params(labelsize=7)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)


def _write(axes: Any, at: float, text: str, name: str) -> None:
    """Write a word outside its lane: the user's above, the agent's below."""
    height, alignment = {"user": (2.15, "bottom"), "agent": (-2.25, "top")}[name]
    axes.text(at, height, text, fontsize=8, color=COLOURS[name], parse_math=False, rotation=25, va=alignment)
