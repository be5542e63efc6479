"""Plots of frame times against sessions and against context."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duplex.atomic import atomic_path
from duplex.bench.frame import FrameTimes
from duplex.results.plotting import new_figure

__all__ = ["plot_times"]

WIDTH, HEIGHT = 9.0, 3.6
SERIES = (("p99", "99 %", ":"), ("p95", "95 %", "--"), ("median", "median", "-"))


def plot_times(sessions: Sequence[FrameTimes], contexts: Sequence[FrameTimes], path: Path, title: str) -> None:
    """Plot the results of :func:`~duplex.bench.time_sessions` and :func:`~duplex.bench.time_contexts` to a file.

    :raises MissingDependencyError: if matplotlib is not installed
    :raises OutputError: if the file cannot be written
    """
    figure = new_figure(WIDTH, HEIGHT)
    left, right = figure.subplots(1, 2)
    _draw(left, [(times.sessions, times) for times in sessions], "sessions, side by side")
    left.set_xscale("log", base=2)
    left.set_xticks([times.sessions for times in sessions], [str(times.sessions) for times in sessions])
    _draw(right, [(times.context, times) for times in contexts], "frames behind one session")
    left.legend(frameon=False)
    figure.suptitle(title, fontsize="medium")
    with atomic_path(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower() or "png", dpi=150)


def _draw(axes: Any, points: Sequence[tuple[int, FrameTimes]], label: str) -> None:
    for attribute, name, line in SERIES:
        values = [getattr(times.total, attribute) for _, times in points]
        axes.plot([place for place, _ in points], values, line, color="tab:blue", marker=".", label=name)
    if points:
        axes.axhline(points[0][1].frame_ms, color="tab:red", linewidth=1, label="real time")
    axes.set_xlabel(label)
    axes.set_ylabel("ms a frame")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
