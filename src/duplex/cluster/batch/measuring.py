"""``measure`` on a cluster: who holds the floor in dialogues, a core each."""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import attrs

from duplex.cluster.batch.dialogues import find
from duplex.cluster.batch.inputs import Far
from duplex.cluster.batch.items import Found, Item
from duplex.cluster.batch.job import Ended, Heard, PassedOver, Ready, Runner
from duplex.cluster.batch.places import Place
from duplex.cluster.batch.rows import Row, failed_row
from duplex.measuring.one import measure_to_file, target_of
from duplex.measuring.settings import Settings
from duplex.measuring.source import Source
from duplex.measuring.sources import find_dialogues
from duplex.measuring.tables import write_tables
from duplex.process.pairs import Pair

__all__ = ["MeasureJob"]

IN_HAND = 4
"""Dialogues that a worker is given at a time."""


@attrs.frozen(kw_only=True)
class MeasureJob:
    """Measures dialogues: what :func:`duplex.measuring.measure` does, with its arguments."""

    settings: Settings = attrs.field(factory=Settings)
    pair: Pair | None = None
    given_turns: bool = False
    force: bool = False

    @property
    def figures(self) -> Mapping[str, type]:
        """The table's own columns: what dialogues are like stands in ``dialogues.parquet``."""
        return {"notes": str}

    @property
    def looks(self) -> bool:
        """No: there is no model to load."""
        return False

    @property
    def device(self) -> None:
        """There is no model."""
        return

    @property
    def cpus(self) -> float:
        """A core a worker."""
        return 1.0

    @property
    def side_by_side(self) -> int:
        """How many are given at a time; they are measured one after the other."""
        return IN_HAND

    def find(self, local: Sequence[str], far: Sequence[Far], out: str, passed_over: PassedOver | None) -> list[Found]:
        """Return the dialogues that files, folders, manifests and addresses stand for."""
        search = partial(find_dialogues, out=out, pair=self.pair, given_turns=self.given_turns, passed_over=passed_over)
        return find(local, far, search, self.pair)

    def check(self) -> "MeasureJob":
        """Return the job: any machine can."""
        return self

    def marker(self, item: Item) -> str:
        """Return the name of the dialogue's JSON."""
        return target_of(_source(item), Path()).as_posix()

    def look(self, ready: Ready, out: Path) -> Row | None:
        """Leave it to the worker, which has no model to load."""
        del ready, out

    def files(self, item: Item, out: Path) -> list[str]:
        """Return the dialogue's JSON."""
        del out
        return [self.marker(item)]

    @contextlib.contextmanager
    def opened(self) -> Generator[Runner]:
        """Measure in a thread, one after the other."""

        async def run(ready: Sequence[Ready], out: Path, heard: Heard, ended: Ended) -> None:
            seconds = 0.0
            for each in ready:
                row = await anyio.to_thread.run_sync(self._measure, each, out)
                seconds += row.seconds
                heard(seconds)
                ended(row)

        yield run

    def finish(self, place: Place, rows: Sequence[Row]) -> None:
        """Write the tables of all dialogues, as without a cluster."""
        markers = [row.results for row in sorted(rows, key=lambda row: row.index) if row.status != "failed"]
        if not markers:
            return
        with place.opened(markers) as work:
            written = write_tables(work, [work / marker for marker in markers])
            for path in written:
                place.publish(work, [path.name])

    def _measure(self, ready: Ready, out: Path) -> Row:
        item = ready.item
        try:
            source = _checked(ready)
            outcome = measure_to_file(source, out, self.settings, force=self.force)
        except Exception as error:  # noqa: BLE001 -- the other dialogues must not suffer
            return failed_row(item, error)
        return Row.of(
            item,
            "skipped" if outcome.skipped else "done",
            results=self.marker(item),
            seconds=float(outcome.summary["duration"]),
            summary=outcome.summary,
            notes=tuple(outcome.notes),
            figures={"notes": "; ".join(outcome.notes)},
        )


def _source(item: Item) -> Source:
    payload = item.found.payload
    assert isinstance(payload, Source)  # noqa: S101 -- this job's items are dialogues
    return payload


def _checked(ready: Ready) -> Source:
    assert isinstance(ready.payload, Source)  # noqa: S101 -- this job's items are dialogues
    return ready.payload
