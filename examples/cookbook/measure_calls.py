"""A folder of calls measured: who speaks how much, how fast the answers come, who cuts in; without a model.

python examples/cookbook/measure_calls.py CALLS MEASURES

Each call is a stereo recording, one speaker a channel, or a folder that `duplex process` or a server has written.
"""

import json
import sys
from pathlib import Path

import anyio
import numpy as np
from rich.console import Console
from rich.table import Table

from duplex.measuring import MeasureResult, measure


def milliseconds(seconds: list[float]) -> str:
    """Return the median of times, or a dash."""
    return f"{1000 * np.median(seconds):.0f}" if seconds else "-"


def add_rows(table: Table, result: MeasureResult) -> None:
    """Add what each of the two speakers of a call did."""
    events = json.loads(result.path.read_text())["events"]
    transfers = [event for event in events if event["event"] == "transfer"]
    for place in ("first", "second"):
        speaker = result.summary[f"{place}_speaker"]
        table.add_row(
            result.source.name.as_posix(),
            f"{result.summary['duration']:.1f}",
            speaker,
            f"{100 * (result.summary[f'{place}_share'] or 0):.0f} %",
            milliseconds([event["offset"] for event in transfers if event["other"] == speaker]),
            str(result.summary[f"{place}_interruptions"]),
        )


async def main(calls: Path, measures: Path) -> None:
    """Measure every call below a folder, and print what each speaker of each did."""
    table = Table("call", "seconds", "speaker", "of the speech", "answers after (ms)", "cuts in")
    for result in await measure([calls], measures):
        if result.error is None:
            add_rows(table, result)
        else:
            print(f"{result.source.name}: {result.error}", file=sys.stderr)
    Console(width=100).print(table)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), Path(sys.argv[2]))
