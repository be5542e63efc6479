"""Pictures of dialogues: the distribution of floor-transfer offsets, and who speaks when."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from duplex.atomic import atomic_path
from duplex.errors import UsageError
from duplex.results.plotting import new_figure

__all__ = ["LONGEST_LANES", "draw_lanes", "draw_offsets"]

FORMATS = (".png", ".svg", ".pdf")
COLOURS = ("#2a6fb0", "#c8571b")
MARKS = {"backchannel": "o", "interruption": "x"}
SHOWN = 3.0
"""Offsets in seconds that the picture reaches, on both sides; rarer ones are counted in its title."""
BIN = 0.1
SECONDS_A_ROW = 30.0
LONGEST_LANES = 600.0


def draw_offsets(offsets: ArrayLike, out: Path) -> None:
    """Draw the distribution of floor-transfer offsets in seconds, ``[n]``.

    :param out: a name that ends in ``.png``, ``.svg`` or ``.pdf``
    :raises UsageError: if the name ends in something else
    :raises OutputError: if the picture cannot be written
    :raises MissingDependencyError: if matplotlib is not installed
    """
    values = np.asarray(offsets, np.float64)
    figure = _figure(out, 8, 4)
    axes = figure.subplots()
    axes.hist(values, bins=np.arange(-SHOWN, SHOWN + BIN / 2, BIN), color=COLOURS[0])
    axes.axvline(0, color="black", lw=0.8)
    title = f"{values.size} floor transfers"
    if values.size:
        median = float(np.median(values))
        axes.axvline(median, color=COLOURS[1], lw=1.2)
        beyond = int((np.abs(values) > SHOWN).sum())
        title += f", median {median * 1000:.0f} ms" + (f"; {beyond} beyond the edges" if beyond else "")
    axes.set(title=title, xlabel="offset in seconds: overlap below 0, gap above", ylabel="transfers")
    _save(figure, out)


def draw_lanes(events: Iterable[Mapping[str, Any]], speakers: Sequence[str], out: Path, *, duration: float) -> None:
    """Draw who speaks when, half a minute a row, with backchannel candidates (o) and interruptions (x).

    :param events: rows as :meth:`DialogueMeasures.records` returns them
    :param out: a name that ends in ``.png``, ``.svg`` or ``.pdf``
    :raises UsageError: if the name ends in something else, or the dialogue is longer than ten minutes
    :raises OutputError: if the picture cannot be written
    :raises MissingDependencyError: if matplotlib is not installed
    """
    if duration > LONGEST_LANES:
        raise UsageError(f"{duration:.0f} s are too much for a picture of lanes; {LONGEST_LANES:.0f} s fit")
    count = max(math.ceil(duration / SECONDS_A_ROW), 1)
    figure = _figure(out, 11, 0.4 + 0.9 * count)
    rows = list(figure.subplots(count, 1, squeeze=False)[:, 0])
    every = list(events)
    for lane, (speaker, colour) in enumerate(zip(speakers, COLOURS, strict=True)):
        own = [event for event in every if event["speaker"] == speaker]
        units = [(event["start"], event["duration"]) for event in own if event["event"] == "unit"]
        for axes in rows:
            axes.broken_barh(units, (0.55 - lane, 0.7), color=colour, lw=0)
            for kind, mark in MARKS.items():
                at = [event["start"] for event in own if event["event"] == kind]
                axes.plot(at, [0.9 - lane] * len(at), mark, color="black", ms=4, ls="none")
    for row, axes in enumerate(rows):
        start = row * SECONDS_A_ROW
        axes.set(xlim=(start, start + SECONDS_A_ROW), ylim=(-0.6, 1.4), yticks=[0.9, -0.1], yticklabels=speakers)
        axes.tick_params(labelsize=7)
        for side in ("top", "left", "right"):
            axes.spines[side].set_visible(False)
    _save(figure, out)


def _figure(out: Path, width: float, height: float) -> Any:
    if out.suffix.lower() not in FORMATS:
        raise UsageError(f"{out.name} is no name of a picture; let it end in {', '.join(FORMATS)}")
    return new_figure(width, height)


def _save(figure: Any, out: Path) -> None:
    with atomic_path(out) as part:
        figure.savefig(part, format=out.suffix[1:].lower(), dpi=120)
