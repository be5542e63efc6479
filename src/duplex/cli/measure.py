"""``duplex measure``: who holds the floor in recorded dialogues."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from duplex.cli.options import debug_option
from duplex.cli.progress import TrainingBar
from duplex.cli.ray import RayOptions, ray_options, run_on_ray
from duplex.cli.text import one_line, plain, report_error, tell_passed_over
from duplex.errors import UsageError

if TYPE_CHECKING:
    from duplex.measuring import MeasureResult

__all__ = ["measure"]


@click.command(short_help="Measure who holds the floor in two-channel recordings.")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("--out", type=click.Path(), default="measures", show_default=True, help="For the results.")
@click.option(
    "--pair",
    nargs=2,
    metavar="LEFT RIGHT",
    help='Names of two mono files that are one dialogue. Default: "*-left" "*-right", "*_A" "*_B" and the like.',
)
@click.option("--given-turns", is_flag=True, help="Take the turns that a manifest has, not those of the detector.")
@click.option("--detector", type=click.Choice(["silero", "level"]), default="silero", show_default=True)
@click.option("--level", type=float, default=-45.0, show_default=True, metavar="DBFS", help="Speech, for level.")
@click.option("--minimum-silence", type=float, default=0.2, show_default=True, metavar="SECONDS", help="Ends a unit.")
@click.option("--minimum-speech", type=float, default=0.1, show_default=True, metavar="SECONDS", help="Makes a unit.")
@click.option("--turn-silence", type=float, default=1.0, show_default=True, metavar="SECONDS", help="Ends a turn.")
@click.option("--longest-backchannel", type=float, default=1.0, show_default=True, metavar="SECONDS")
@click.option("--shortest-interruption", type=float, default=0.2, show_default=True, metavar="SECONDS", help="Overlap.")
@click.option("--jobs", type=click.IntRange(min=1), help="Dialogues side by side. Default: one for each core.")
@click.option("--plot", is_flag=True, help="Draw the offsets of all, and the lanes of each dialogue up to 10 minutes.")
@click.option("--force", is_flag=True, help="Measure again what is finished; replace other results.")
@ray_options
@debug_option
def measure(
    inputs: tuple[str, ...],
    out: str,
    pair: tuple[str, str] | None,
    given_turns: bool,
    jobs: int | None,
    plot: bool,
    force: bool,
    on_ray: RayOptions | None,
    **settings: Any,
) -> int:
    """Measure who holds the floor: pauses, gaps, overlaps, interruptions, backchannels.

    IN is a stereo recording with a speaker on each channel, two mono files (NAME-left.wav and NAME-right.wav), a folder
    of either, a pattern, a list (.txt), a manifest of lhotse, NeMo or Kaldi (wav.scp), turns (RTTM, CTM, TextGrid),
    results of `duplex process`, or recordings of a server. For each dialogue there is a JSON file below --out;
    dialogues.csv and events.csv have all of them, and with pyarrow .parquet too. It needs no model. What is finished
    already is skipped.

    \b
    Examples:
      duplex measure call.wav
      duplex measure recordings --out measures --plot
      duplex measure "fisher/*.sph" --jobs 8
      duplex measure calls --pair "agent_*" "caller_*"
      duplex measure cuts.jsonl.gz --given-turns
      duplex measure "s3://calls/shard-{000..127}.tar" --out s3://calls/measures --ray auto
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.cluster.batch import MeasureJob  # noqa: PLC0415
    from duplex.measuring import Settings, find_dialogues  # noqa: PLC0415 -- `duplex --help` need not wait for it
    from duplex.measuring.run import measure_side_by_side  # noqa: PLC0415
    from duplex.process.pairs import parse_pair  # noqa: PLC0415
    from duplex.results.plotting import require_matplotlib  # noqa: PLC0415

    chosen = Settings(**settings)
    if plot:
        require_matplotlib()
    passed_over: list[Path] = []
    patterns = None if pair is None else parse_pair(pair)
    if on_ray is not None:
        if plot or jobs is not None:
            raise UsageError(
                "--plot and --jobs are for this machine alone; with --ray leave --plot out, and give --workers"
            )
        job = MeasureJob(settings=chosen, pair=patterns, given_turns=given_turns, force=force)
        return run_on_ray(job, inputs, out, on_ray, lambda row: _lines(row.summary), "dialogues")
    folder = Path(out)
    sources = find_dialogues(inputs, folder, pair=patterns, given_turns=given_turns, passed_over=passed_over.append)
    tell_passed_over(passed_over)
    results: list[MeasureResult] = []
    with TrainingBar("dialogues") as bar:

        def progress(result: "MeasureResult") -> None:
            results.append(result)
            bar.update(len(results), len(sources), plain(str(result.source.name)))

        every = anyio.run(
            lambda: measure_side_by_side(sources, folder, chosen, jobs=jobs, force=force, progress=progress)
        )
    for result in every:
        _report(result)
    measured = [result for result in every if result.error is None]
    if plot:
        _draw(measured, folder)
    if len(every) > 1:
        _sum_up(every)
    return 0 if len(measured) == len(every) else 1


def _report(result: "MeasureResult") -> None:
    """Tell what became of a dialogue."""
    if result.error is not None:
        report_error(result.error, debug=bool(click.get_current_context().find_root().obj))
        return
    finished = " (finished before)" if result.status == "skipped" else ""
    click.echo(plain(f"{result.source.name} -> {result.path}{finished}"))
    for line in _lines(result.summary):
        click.echo(f"  {line}")
    for note in result.notes:
        click.echo(f"duplex: note: {plain(one_line(f'{result.source.name}: {note}'))}", err=True)


def _lines(row: Mapping[str, Any]) -> list[str]:
    """Return what is said of a dialogue's measures."""
    shares = ", ".join(
        f"{row[f'{place}_speaker']} {_share(row[f'{place}_share'])} in {row[f'{place}_units']} units"
        for place in ("first", "second")
    )
    overlaps = row["overlap_between_count"] + row["overlap_within_count"]
    interruptions = row["first_interruptions"] + row["second_interruptions"]
    backchannels = row["first_backchannels"] + row["second_backchannels"]
    median = row["offset_median"]
    offset = "no floor transfers" if median is None else f"median offset {median * 1000:.0f} ms"
    return [
        plain(f"{row['duration']:.2f} s: {shares}"),
        (
            f"{row['pause_count']} pauses, {row['gap_count']} gaps, {overlaps} overlaps, {offset}, "
            f"{interruptions} interruptions, {backchannels} backchannel candidates"
        ),
    ]


def _share(share: float | None) -> str:
    return "0 %" if share is None else f"{share:.0%}".replace("%", " %")


def _draw(measured: "list[MeasureResult]", out: Path) -> None:
    from duplex.measuring import draw_lanes, draw_offsets  # noqa: PLC0415
    from duplex.measuring.one import read_measured  # noqa: PLC0415
    from duplex.measuring.pictures import LONGEST_LANES  # noqa: PLC0415

    offsets: list[float] = []
    for result in measured:
        content = read_measured(result.path)
        offsets += [event["offset"] for event in content["events"] if event["event"] == "transfer"]
        if result.summary["duration"] <= LONGEST_LANES:
            lanes = result.path.with_suffix(".png")
            draw_lanes(content["events"], content["speakers"], lanes, duration=result.summary["duration"])
    draw_offsets(offsets, out / "offsets.png")
    click.echo(plain(str(out / "offsets.png")))


def _sum_up(results: "list[MeasureResult]") -> None:
    counts = {status: sum(result.status == status for result in results) for status in ("done", "skipped", "failed")}
    hours = sum(result.summary.get("duration", 0.0) for result in results) / 3600
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    click.echo(f"{told}; {hours:.2f} hours of dialogue", err=True)
