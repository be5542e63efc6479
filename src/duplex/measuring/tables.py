"""Tables over all dialogues: a row for each dialogue, and a row for each event; CSV always, Parquet where pyarrow is.

Both are made from the dialogues' JSON files, one at a time, so that memory does not grow with their number.
"""

import contextlib
import csv
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from duplex.atomic import atomic_path, clear_remains
from duplex.measuring.dialogue import measure_turns
from duplex.measuring.one import read_measured

__all__ = ["DIALOGUES", "EVENTS", "write_tables"]

DIALOGUES, EVENTS = "dialogues", "events"
"""The tables' names, without suffixes."""
_TEXT = ("name", "notes", "first_speaker", "second_speaker", "event", "speaker", "other")
_ROWS = 10_000
"""Rows that are written at a time."""


class _Writer(Protocol):
    def write(self, rows: Sequence[dict[str, Any]]) -> None: ...


class _Csv:
    def __init__(self, file: TextIO, columns: Sequence[str]) -> None:
        self._writer = csv.DictWriter(file, columns, lineterminator="\n")
        self._writer.writeheader()

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        self._writer.writerows(rows)


class _Parquet:
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._arrow: Any = import_module("pyarrow")
        self._schema: Any = self._arrow.schema([(name, self._type(name)) for name in columns])
        self._writer: Any = import_module("pyarrow.parquet").ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows += rows
        if len(self._rows) >= _ROWS:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def _type(self, name: str) -> Any:
        if name in _TEXT:
            return self._arrow.string()
        counted = name.endswith(("_units", "_turns", "_interruptions", "_backchannels", "_count", "_yielded"))
        return self._arrow.int64() if counted else self._arrow.float64()


def write_tables(out: Path, measured: Sequence[Path]) -> list[Path]:
    """Write the tables of dialogues whose JSON files are given, and return where.

    :raises OutputError: if one cannot be written, or a file is none of a dialogue
    """
    empty = measure_turns([], [])
    row = {"event": "", "start": 0.0, "end": 0.0, "duration": 0.0, "speaker": None, "other": None}
    columns = {
        DIALOGUES: ["name", *empty.summary(), "notes"],
        EVENTS: ["name", *row, "offset", "stop_latency", "yield_latency"],
    }
    suffixes = [".csv", ".parquet"] if find_spec("pyarrow") else [".csv"]
    with contextlib.ExitStack() as stack:
        paths: list[Path] = []
        writers: dict[str, list[_Writer]] = {}
        for table, names in columns.items():
            for suffix in suffixes:
                paths.append(out / f"{table}{suffix}")
                clear_remains(paths[-1])
                part = stack.enter_context(atomic_path(paths[-1]))
                writers.setdefault(table, []).append(_writer(part, suffix, names, stack))
        for dialogue, events in _rows(measured):
            for writer in writers[DIALOGUES]:
                writer.write([dialogue])
            for writer in writers[EVENTS]:
                writer.write(events)
    return paths


def _writer(part: Path, suffix: str, columns: Sequence[str], stack: contextlib.ExitStack) -> _Writer:
    if suffix == ".csv":
        return _Csv(stack.enter_context(part.open("w", newline="", encoding="utf-8", errors="replace")), columns)
    return stack.enter_context(_Parquet(part, columns))


def _rows(measured: Sequence[Path]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield the row of each dialogue, and those of its events."""
    for path in measured:
        content = read_measured(path)
        name = str(content["name"])
        yield (
            {"name": name, **content["summary"], "notes": "; ".join(content["notes"])},
            [{"name": name, **event} for event in content["events"]],
        )
