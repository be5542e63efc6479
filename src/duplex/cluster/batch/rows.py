"""A row for each recording, and the table of all: ``results.parquet``."""

import pickle
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from duplex.atomic import atomic_path
from duplex.cluster.batch.items import Item
from duplex.errors import DuplexError

__all__ = ["TABLE", "Row", "Status", "failed_row", "write_table"]

TABLE = "results.parquet"
ROW_GROUP = 50_000
Status: TypeAlias = Literal["done", "skipped", "failed", "stopped"]
TYPES: dict[type, str] = {str: "string", float: "float64", int: "int64", bool: "bool_"}


@attrs.frozen(kw_only=True)
class Row:
    """What became of one recording or dialogue.

    ``results`` is the folder or file of its results, ``seconds`` how long it is, ``summary`` what this kind of work
    says of it, ``figures`` the columns of the table that only it has. ``error`` says why it ``"failed"``. What was
    ``"stopped"`` comes to nobody but the driver: it is done by the next run. ``fatal``: no other recording would fare
    better.
    """

    index: int
    name: str
    input: str
    results: str
    status: Status
    seconds: float = 0.0
    error: Exception | None = None
    summary: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    fatal: bool = False

    @classmethod
    def of(cls, item: Item, status: Status, *, results: str | None = None, **told: Any) -> "Row":
        """Return the row of an item, whose results lie under its name unless ``results`` says where."""
        place = item.name if results is None else results
        return cls(index=item.index, name=item.name, input=item.label, results=place, status=status, **told)

    def packed(self) -> bytes:
        """Return the row as bytes, whatever its error is made of."""
        try:
            packed = pickle.dumps(self)
            pickle.loads(packed)  # noqa: S301 -- what was packed a line above
        except Exception:  # noqa: BLE001 -- an error's arguments may be anything
            return pickle.dumps(attrs.evolve(self, error=RuntimeError(f"{type(self.error).__name__}: {self.error}")))
        return packed

    def columns(self) -> dict[str, Any]:
        """Return the row of the table; what was finished before is done."""
        return {
            "name": _shown(self.name),
            "input": _shown(self.input),
            "status": "done" if self.status == "skipped" else self.status,
            "error": None if self.error is None else _shown(_told(self.error)),
            "results": None if self.status == "failed" else _shown(self.results),
            "seconds": self.seconds,
            **self.figures,
        }


def failed_row(item: Item, error: Exception, *, fatal: bool = False) -> Row:
    """Return the row of an item that failed."""
    return Row.of(item, "failed", results="", error=error, fatal=fatal)


def write_table(path: Path, rows: Sequence[Row], figures: Mapping[str, type]) -> None:
    """Write the table of all, one file whatever the number of blocks that the rows came in, in the order of the inputs.

    :param figures: the columns that this kind of work has beside those of every row
    :raises OutputError: if it cannot be written
    """
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    own = {"name": str, "input": str, "status": str, "error": str, "results": str, "seconds": float}
    kinds = {**own, **figures}
    schema = arrow.schema([(name, getattr(arrow, TYPES[kind])()) for name, kind in kinds.items()])
    ordered = sorted(rows, key=lambda row: row.index)
    with atomic_path(path) as part, parquet.ParquetWriter(part, schema) as writer:
        for start in range(0, len(ordered), ROW_GROUP):
            group = [row.columns() for row in ordered[start : start + ROW_GROUP]]
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
        if not ordered:
            writer.write_table(schema.empty_table())


def _shown(text: str) -> str:
    """Return a text as UTF-8 has it: names may hold bytes that are none."""
    return text.encode(errors="replace").decode()


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, DuplexError) else f"{type(error).__name__}: {text}"
