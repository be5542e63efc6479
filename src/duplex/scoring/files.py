"""What is written of a scored dialogue: a table of its frames, and ``summary.json``, which comes last."""

import contextlib
import json
from collections.abc import Generator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from duplex.atomic import abandon, atomic_path, atomic_write_bytes, atomic_write_text, clear_remains, make_folder
from duplex.errors import OutputError, UsageError
from duplex.extras import require
from duplex.parsing import parse_json
from duplex.results.plotting import new_figure
from duplex.scoring.recorded import STATES
from duplex.scoring.summary import DialogueScores

__all__ = ["SUMMARY", "TableFormat", "check_format", "draw_scores", "finished", "write_scores"]

SUMMARY, PICTURE = "summary.json", "scores.png"
TableFormat = Literal["safetensors", "parquet"]
UNKNOWN = "unknown"
LONGEST_PICTURE = 3600.0
BIN = 1.0
"""Seconds whose scores are drawn as one point."""


def check_format(name: str) -> None:
    """Check that tables can be written in a format.

    :raises UsageError: if there is no such format
    :raises MissingDependencyError: if what writes it is not installed
    """
    if name not in get_args(TableFormat):
        raise UsageError(f"there is no format {name!r}; give one of {', '.join(get_args(TableFormat))}")
    if name == "parquet":
        require("tables", "pyarrow", purpose="Parquet")


def finished(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the summary of a dialogue that has been scored in the same way before, ``None`` if it is to be scored.

    :raises OutputError: if the folder has something else in it
    """
    path = folder / SUMMARY
    if not path.exists():
        return None
    try:
        content: Any = parse_json(path.read_bytes(), surrogates=True)
        same_input = [each["sha256"] for each in content["inputs"]] == [each["sha256"] for each in identity["inputs"]]
        same_place = [each["path"] for each in content["inputs"]] == [each["path"] for each in identity["inputs"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputError(f"{path} is no summary of scores; remove it, or choose another --out") from None
    if not (same_input or same_place):
        raise OutputError(f"{folder} holds the scores of another dialogue; choose another --out, or give --force")
    same = all(content.get(key) == value for key, value in identity.items() if key != "inputs")
    complete = all((folder / str(name)).is_file() for name in content.get("files", []))
    return content if same_input and same and complete else None


def write_scores(
    folder: Path, scores: DialogueScores, content: Mapping[str, Any], form: TableFormat, *, plot: bool
) -> None:
    """Write a dialogue's files, each whole; the summary, which says that all are there, comes last.

    :raises OutputError: if the disk refuses; nothing of this dialogue stays then
    """
    make_folder(folder)
    table, picture, summary = folder / f"scores.{form}", folder / PICTURE, folder / SUMMARY
    tables = [folder / f"scores.{each}" for each in get_args(TableFormat)]
    with _all_or_nothing(folder, (summary, *tables, picture)):
        if form == "parquet":
            _write_parquet(table, scores)
        else:
            atomic_write_bytes(table, save(_tensors(scores)))
        files = [table.name]
        if plot and scores.at[-1] <= LONGEST_PICTURE:
            draw_scores(scores, picture)
            files.append(picture.name)
        atomic_write_text(summary, json.dumps({**content, "files": files}, indent=1) + "\n")


@contextlib.contextmanager
def _all_or_nothing(folder: Path, files: Sequence[Path]) -> Generator[None]:
    """Have files written; what an earlier run left, the summary first, is no result any more from here on."""
    for path in files:
        clear_remains(path)
        abandon(path)
    try:
        yield
    except BaseException:
        for path in files:
            abandon(path)
        with contextlib.suppress(OSError):  # something else is in it
            folder.rmdir()
        raise


def _tensors(scores: DialogueScores) -> dict[str, np.ndarray[Any, Any]]:
    known = {} if scores.states is None else {"state": scores.states}
    return {
        name: np.ascontiguousarray(array)
        for name, array in {
            "at": scores.at,
            "tokens": scores.tokens,
            "log_probabilities": scores.log_probabilities,
            "ranks": scores.ranks,
            **known,
        }.items()
    }


def _write_parquet(path: Path, scores: DialogueScores) -> None:
    columns: dict[str, Any] = {"at": scores.at}
    columns["state"] = (
        [UNKNOWN] * len(scores.at) if scores.states is None else [STATES[index] for index in scores.states.tolist()]
    )
    for row, name in enumerate(scores.streams):
        columns[f"{name}_token"] = scores.tokens[row]
        columns[f"{name}_log_probability"] = scores.log_probabilities[row]
        columns[f"{name}_rank"] = scores.ranks[row]
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    with atomic_path(path) as part:
        parquet.write_table(arrow.table(columns), part)


def draw_scores(scores: DialogueScores, out: Path) -> None:
    """Draw the surprise of text and codes over time, in bits a frame, and when the agent speaks.

    :raises MissingDependencyError: if matplotlib is not installed
    """
    figure = new_figure(11, 4)
    axes = figure.subplots()
    bits = -scores.log_probabilities.astype(np.float64) / np.log(2)
    width = max(round(BIN / scores.frame_duration), 1)
    starts = range(0, bits.shape[1], width)
    for name, rows in (("text", bits[:1]), ("agent's codes, mean", bits[1:])):
        pieces: list[NDArray[np.float64]] = [rows[:, start : start + width] for start in starts]
        means = [float(np.nanmean(piece)) if np.isfinite(piece).any() else np.nan for piece in pieces]
        axes.plot(scores.at[::width], means, label=name, linewidth=1)
    if scores.states is not None:
        speech = scores.states >= STATES.index("agent")
        low, high = axes.get_ylim()
        axes.fill_between(scores.at, low, high, where=speech, step="post", alpha=0.12, lw=0, label="the agent speaks")
    axes.set(xlabel="seconds", ylabel="surprise, bits a token")
    axes.legend(fontsize=8)
    with atomic_path(out) as part:
        figure.savefig(part, format="png", dpi=120)
