"""``duplex bench``: what this machine makes of a model."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from duplex.cli.options import LoadOptions, loading_options
from duplex.cli.text import plain, print_json, size
from duplex.errors import UsageError

if TYPE_CHECKING:
    from duplex.bench import BenchmarkReport, LatencyTimes, Percentiles

__all__ = ["bench"]


@click.command(short_help="Measure how fast a model runs on this machine.")
@click.option("--stage", type=click.Choice(["all", "mimi", "frame"]), default="all", show_default=True)
@click.option("--frames", type=click.IntRange(1, 10**7), default=100, show_default=True, help="To time, each.")
@click.option(
    "--context", type=click.IntRange(0, 10**6), default=0, show_default=True, help="Frames behind each session."
)
@click.option("--sweep", is_flag=True, help="1, 2, 4, ... sessions up to --sessions, and one with more behind it.")
@click.option("--latency", is_flag=True, help="From a frame's first sample to its answer's, in real time.")
@click.option("--original", type=click.Path(path_type=Path), metavar="PYTHON", help="Time the package moshi beside.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="F.png|svg|pdf", help="Draw the sweep.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@loading_options
def bench(load_options: LoadOptions, plot: Path | None, as_json: bool, **wanted: Any) -> None:
    """Measure how fast a model runs on this machine: each stage of a frame, memory, and the start.

    Times are in milliseconds. A frame lasts 80; a conversation keeps up if its steps take less. PYTHON is that of an
    environment in which the original package is installed; it runs the same weights in the same run.

    \b
    Examples:
      duplex bench
      duplex bench --stage mimi --model kyutai/moshika-pytorch-bf16
      duplex bench --sweep --sessions 32 --plot times.png
      duplex bench --latency --json
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    if plot is not None and not wanted["sweep"]:
        raise UsageError("--plot draws what --sweep measures; give both")
    from rich.console import Console  # noqa: PLC0415 -- `duplex --help` need not wait for it

    from duplex.bench import BenchmarkOptions, plot_times, run_benchmark  # noqa: PLC0415
    from duplex.results.plotting import require_matplotlib  # noqa: PLC0415

    if plot is not None:
        require_matplotlib()
    chosen = attrs.asdict(load_options) | {"sessions": load_options.sessions or 1}
    chosen["name"] = chosen.pop("model")
    with Console(stderr=True).status("") as status:
        report = run_benchmark(
            chosen, BenchmarkOptions(**wanted), progress=lambda what: status.update(f"measuring: {what}")
        )
    if plot is not None:
        plot_times(report.sessions, report.contexts, plot, f"{load_options.model} on {report.machine.processor}")
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)


def _print(report: "BenchmarkReport") -> None:
    click.echo(plain(str(report.machine)))
    click.echo(plain("model: " + ", ".join(f"{key} {value}" for key, value in report.model.items() if value)))
    rows = list(_rows(report))
    width = max(len(label) for label, _ in rows)
    click.echo(f"\n{'':<{width}}  {'median':>8} {'95 %':>8} {'99 %':>8}  ms")
    for label, times in rows:
        click.echo(f"{label:<{width}}  {times.median:8.2f} {times.p95:8.2f} {times.p99:8.2f}")
    click.echo("".join(f"\n{line}" for line in _lines(report)))


def _rows(report: "BenchmarkReport") -> Iterator[tuple[str, "Percentiles"]]:
    """Yield what is times."""
    if report.mimi is not None:
        yield "codec: encode", report.mimi.encode
        yield "codec: decode", report.mimi.decode
    if report.frame is not None:
        many = f"{report.frame.sessions} session{'s' * (report.frame.sessions > 1)}"
        yield f"frame, {many}, {report.frame.context} behind", report.frame.total
        for name, times in report.frame.stages.items():
            yield f"  {name}", times
    if report.original is not None:
        yield f"original {report.original.version}: encode", report.original.encode
        yield "  decode", report.original.decode
        if report.original.step is not None:
            yield "  language model", report.original.step
        yield "  frame", report.original.total
    for times in report.sessions:
        yield f"frame, {times.sessions} side by side", times.total
    for times in report.contexts:
        yield f"frame, {times.context} behind", times.total
    for latency in report.latency:
        yield from _latency_rows(latency)


def _latency_rows(latency: "LatencyTimes") -> Iterator[tuple[str, "Percentiles"]]:
    parts = {
        f"latency, {latency.way}": latency.total,
        "  way in": latency.incoming,
        "  step": latency.step,
        "  way out": latency.outgoing,
    }
    for name, times in parts.items():
        if times is not None:
            yield name, times


def _layouts(report: "BenchmarkReport") -> list[tuple[str, int]]:
    """Return the layouts of a CPU's weights, and how many shapes have each; which those are is in the JSON."""
    return Counter(report.products.values()).most_common()


def _lines(report: "BenchmarkReport") -> Iterator[str]:
    """Yield what is told in words."""
    if report.products:
        yield "weights lie in " + ", ".join(f"{layout} ({count})" for layout, count in _layouts(report))
    if report.against_original is not None:
        yield f"duplex takes {report.against_original:.2f} of the original's time for each session"
    if report.sessions:
        yield f"sessions in real time: {report.real_time_sessions} of the {report.sessions[-1].sessions} tried"
    for latency in report.latency:
        if latency.spoilt:
            yield (
                f"latency, {latency.way}: {latency.spoilt} frames were left out and {latency.measured} measured: real "
                "time was lost; end other programs, or take a faster model"
            )
    if report.latency:
        first = report.latency[0]
        yield f"of each latency {first.frame_ms:.0f} ms are the frame itself"
        yield f"the answer's own delay in the model is {first.theoretical_ms - first.frame_ms:.0f} ms more"
    if report.cold_start is not None:
        start = report.cold_start
        yield (
            f"first frame of audio {start.total:.1f} s after a cold start: imports {start.imports:.1f}, "
            f"loading {start.loading:.1f}"
        )
        if start.memory is not None and report.memory is not None:
            yield f"memory: {size(start.memory)}; predicted {size(report.memory.total)}"
