"""A training run on disk: its settings, its checkpoint, and the history of its losses.

::

    run.json           settings, and the shards of its data; a run is resumed only with the same ones
    checkpoint.pt      everything that is needed to resume, replaced atomically
    losses.csv         mean losses at intervals
    losses.png         the same, plotted
    samples/           audio: the input, then the reconstruction
    codec/             the exported codec, in the published layout
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO, cast

import torch

from duplex.atomic import atomic_path, atomic_write_text, clear_remains, make_folder
from duplex.errors import CorpusError, TrainingError
from duplex.parsing import parse_json
from duplex.results.plotting import new_figure, require_matplotlib

__all__ = ["RunFolder"]

RUN = "run.json"
SHARDS = "shards"
"""The data's files and their sizes: of others, other batches would be drawn. Earlier runs have not noted them."""
CHECKPOINT = "checkpoint.pt"
LOSSES = "losses.csv"
PLOT = "losses.png"


class _Writer:
    """A file that torch writes to, tensor by tensor: a copy of all of them would take as much memory as they do.

    torch's own code is in no state to be left by an exception; so what the disk refuses is raised afterwards.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._refused: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write, unless the disk has refused something already."""
        if self._refused is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._refused = error
        return len(data)

    def flush(self) -> None:
        """Leave it to closing the file."""

    def check(self) -> None:
        """Raise what the disk has refused.

        :raises OSError: if it has
        """
        if self._refused is not None:
            raise self._refused


_UNREADABLE = OSError, RuntimeError, ArithmeticError, ValueError, TypeError, LookupError, EOFError, UnpicklingError
"""What torch raises for a damaged checkpoint, and Python for a step that is no number."""


class RunFolder:
    """The folder of one run on a folder of ``data``, new or to be resumed; of several processes one ``writes``.

    :raises TrainingError: if the folder has a run with other settings or other data, naming the first that differs
    :raises CorpusError: if the data can no longer be found
    :raises OutputError: if the folder cannot be created
    :raises MissingDependencyError: if matplotlib is not installed
    """

    def __init__(self, path: Path, choices: Mapping[str, Any], *, data: Path, writes: bool = True) -> None:
        self.path = path
        self._rows: list[dict[str, float]] = []
        require_matplotlib()  # better missed now than after hours
        if writes:
            make_folder(path)
            for name in (RUN, CHECKPOINT, LOSSES, PLOT):
                clear_remains(path / name)
        wanted, shards = json.loads(json.dumps(choices)), _shards(data)
        if (path / RUN).exists():
            had = _read_run(path / RUN)
            begun_on = had.pop(SHARDS, None)
            _compare(path, had, wanted)
            if begun_on not in (None, shards):
                raise TrainingError(
                    f"{path} holds a run on other data: {_first_difference(begun_on, shards)} in {data}; give the data "
                    "as it was to go on, or choose another --out"
                )
        elif writes:
            atomic_write_text(path / RUN, json.dumps({**wanted, SHARDS: shards}, indent=1) + "\n")

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the last checkpoint, or ``None`` for a new run; the log is truncated to its step.

        :raises TrainingError: if the checkpoint cannot be read
        """
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            saved = cast("dict[str, Any]", torch.load(path, map_location=device, weights_only=True))
            step = int(saved["step"])
        except _UNREADABLE as error:
            reason = type(error).__name__
            raise TrainingError(f"{path} cannot be read ({reason}); remove it to begin again") from error
        self._rows = self._read_log(step)
        return saved

    def _read_log(self, step: int) -> list[dict[str, float]]:
        """Return the rows of the log up to a step."""
        path = self.path / LOSSES
        if not path.exists():
            return []
        try:
            with path.open(newline="") as file:
                rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
            return [row | {"step": int(row["step"])} for row in rows if row["step"] <= step]
        except (OSError, ValueError, OverflowError, TypeError, KeyError, csv.Error) as error:
            raise TrainingError(f"{path} cannot be read ({error}); remove it to go on without") from error

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint and the log.

        :raises OutputError: if writing fails; the previous checkpoint is kept
        """
        with atomic_path(self.path / CHECKPOINT) as part, part.open("wb") as file:
            writer = _Writer(file)
            torch.save(dict(state), cast("Any", writer))
            writer.check()
        columns = sorted({name for row in self._rows for name in row} - {"step"})
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", *columns])
        writer.writeheader()
        writer.writerows(self._rows)
        atomic_write_text(self.path / LOSSES, text.getvalue())

    def log(self, step: int, losses: Mapping[str, float]) -> None:
        """Add a row to the log; it is on disk with the next :meth:`save`."""
        self._rows.append({"step": step, **losses})

    def plot(self) -> None:
        """Plot the log, one panel per loss."""
        columns = [name for name in dict.fromkeys(name for row in self._rows for name in row) if name != "step"]
        if not columns:
            return
        with atomic_path(self.path / PLOT) as part:
            _draw(part, self._rows, columns)


def _draw(path: Path, rows: Sequence[Mapping[str, float]], columns: Sequence[str]) -> None:
    across = 3
    down = -(-len(columns) // across)
    figure = new_figure(4 * across, 2.6 * down)
    for axes, name in zip(figure.subplots(down, across, squeeze=False).flat, columns, strict=False):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), linewidth=0.8)
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(visible=True, alpha=0.3)
    figure.savefig(path, format="png", dpi=110)


def _read_run(path: Path) -> dict[str, Any]:
    try:
        return dict(parse_json(path.read_bytes(), surrogates=True))
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"{path} cannot be read ({error}); remove the folder to begin again") from error


def _compare(path: Path, had: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    before, now = dict(_flat(had)), dict(_flat(wanted))
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise TrainingError(
                f"{path} holds another run: its '{key}' is {json.dumps(before.get(key))}, not "
                f"{json.dumps(now.get(key))}; choose another --out, or give the same choices to go on"
            )


def _shards(data: Path) -> dict[str, int]:
    """Return the names of the files of a folder of data, and their sizes in bytes.

    :raises CorpusError: if they are gone since they were read
    """
    try:
        return {path.name: path.stat().st_size for path in sorted(data.glob("*.safetensors"))}
    except OSError as error:
        raise CorpusError(f"{data} has changed while it was read ({error}); begin again when it is complete") from None


def _first_difference(begun_on: Any, shards: Mapping[str, int]) -> str:
    """Say what is new, gone or another, and how many more there are."""
    before = dict(cast("Mapping[str, Any]", begun_on)) if isinstance(begun_on, Mapping) else {}
    first, *others = (name for name in sorted({*before, *shards}) if before.get(name) != shards.get(name))
    change = "is new" if first not in before else "is no longer" if first not in shards else "has another size"
    return f"{first} {change}, and {len(others)} more differ," if others else f"{first} {change}"


def _flat(choices: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings under dotted names."""
    for key, value in choices.items():
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, Any]", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
