"""``duplex score``: how likely a model finds what was said."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from duplex.cli.options import LoadOptions, loading_options
from duplex.cli.process import SIDE_BY_SIDE
from duplex.cli.progress import TrainingBar
from duplex.cli.ray import RayOptions, ray_options, run_on_ray
from duplex.cli.text import one_line, plain, report_error, tell_passed_over
from duplex.errors import UsageError

if TYPE_CHECKING:
    from duplex.measuring.pairs import Pair
    from duplex.scoring import ScoreResult, ScoreSettings

__all__ = ["score"]


@click.command(short_help="How likely a model finds what was said in a dialogue.")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("--out", type=click.Path(path_type=Path), default="scores", show_default=True, help="For the results.")
@click.option(
    "--agent-channel",
    type=click.Choice(["left", "right"]),
    default="right",
    show_default=True,
    help="Whose words are scored; the other channel is the user.",
)
@click.option(
    "--pair",
    nargs=2,
    metavar="LEFT RIGHT",
    help='Names of two mono files that are one dialogue. Default: "*-left" "*-right", "*_A" "*_B" and the like.',
)
@click.option("--transcriber", metavar="whisper:NAME", help="Gives the agent's words where no transcript is beside.")
@click.option(
    "--format", "form", type=click.Choice(["safetensors", "parquet"]), default="safetensors", show_default=True
)
@click.option("--plot", is_flag=True, help="Draw the surprise over time, of dialogues up to an hour.")
@click.option("--force", is_flag=True, help="Score again what is finished; replace other results.")
@ray_options
@loading_options
def score(  # noqa: PLR0917 -- click passes them by name
    inputs: tuple[str, ...],
    out: Path,
    agent_channel: Any,
    pair: tuple[str, str] | None,
    transcriber: str | None,
    form: Any,
    plot: bool,
    force: bool,
    on_ray: RayOptions | None,
    load_options: LoadOptions,
) -> int:
    """Score what was said: how likely the model finds what the second speaker really did.

    IN is a stereo recording with a speaker on each channel, two mono files (NAME-left.wav and NAME-right.wav), a folder
    of either, a pattern, results of `duplex process`, or a tokens.safetensors of one. The agent's words are read from
    NAME.json beside the recording; without them, or --transcriber, the text is left free and not scored.

    \b
    Examples:
      duplex score call.wav
      duplex score calls --model kyutai/moshika-pytorch-bf16 --format parquet --plot
      duplex score results/call/tokens.safetensors
      duplex score /shared/calls --out /shared/scores --ray auto
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    import duplex  # noqa: PLC0415 -- `duplex --help` need not wait for it
    from duplex.checkpoints import checkpoint  # noqa: PLC0415
    from duplex.measuring.pairs import parse_pair  # noqa: PLC0415
    from duplex.results.plotting import require_matplotlib  # noqa: PLC0415
    from duplex.scoring import ScoreSettings, find_scored, score_sources  # noqa: PLC0415
    from duplex.scoring.files import check_format  # noqa: PLC0415
    from duplex.transcription.loading import WHISPER, load_whisper  # noqa: PLC0415

    check_format(form)
    if plot:
        require_matplotlib()
    if transcriber is not None and not transcriber.startswith(WHISPER):
        raise UsageError(
            f"--transcriber {transcriber} gives no words with ends; give whisper:NAME, or put the words beside each "
            "recording as NAME.json"
        )
    patterns = None if pair is None else parse_pair(pair)
    if on_ray is not None:
        chosen = ScoreSettings(agent_channel=agent_channel, form=form, plot=plot, force=force)
        return _on_ray(on_ray, inputs, out, patterns, transcriber, chosen, load_options)
    passed_over: list[Path] = []
    sources = find_scored(inputs, out, pair=patterns, passed_over=passed_over.append)
    tell_passed_over(passed_over)
    found = checkpoint.resolve(load_options.model, revision=load_options.revision, adapter=load_options.adapter)
    sessions = load_options.sessions or (min(len(sources), SIDE_BY_SIDE) if found.small else 1)
    arguments: dict[str, Any] = load_options.load_arguments(sessions) | {"revision": found.revision}
    with contextlib.ExitStack() as stack:
        loaded = None if transcriber is None else stack.enter_context(load_whisper(transcriber))
        model = stack.enter_context(duplex.load(load_options.model, **arguments))
        settings = ScoreSettings(agent_channel=agent_channel, form=form, plot=plot, force=force, transcriber=loaded)
        done: list[ScoreResult] = []
        with TrainingBar("dialogues") as bar:

            def progress(result: "ScoreResult") -> None:
                done.append(result)
                bar.update(len(done), len(sources), plain(str(result.source.name)))

            every = anyio.run(lambda: score_sources(model, sources, out, settings, progress))
    for result in every:
        _report(result)
    return 1 if any(result.error is not None for result in every) else 0


def _report(result: "ScoreResult") -> None:
    """Tell what became of a dialogue."""
    if result.error is not None:
        report_error(result.error, debug=bool(click.get_current_context().find_root().obj))
        return
    finished = " (finished before)" if result.status == "skipped" else ""
    click.echo(plain(f"{result.source.name} -> {result.folder}{finished}"))
    click.echo(f"  {_figures(result.summary)}")
    for note in result.summary["notes"]:
        click.echo(f"duplex: note: {plain(one_line(f'{result.source.name}: {note}'))}", err=True)


def _figures(summary: Mapping[str, Any]) -> str:
    """Return what is said of a dialogue's scores."""
    streams = summary["streams"]
    text = streams["text"]["perplexity"]
    told = "text not scored (no transcript)" if text is None else f"text perplexity {text:.2f} ({summary['text']})"
    return (
        f"{summary['seconds']:.2f} s: sum {summary['sum']:.1f}, {told}, codes {streams['agent']['perplexity']:.2f}, "
        f"real-time factor {summary['real_time_factor']:.3f}"
    )


def _on_ray(
    on_ray: RayOptions,
    inputs: Sequence[str],
    out: Path,
    pair: "Pair | None",
    transcriber: str | None,
    settings: "ScoreSettings",
    load_options: LoadOptions,
) -> int:
    from duplex.checkpoints import checkpoint  # noqa: PLC0415
    from duplex.cluster.batch import ScoreJob  # noqa: PLC0415

    found = checkpoint.resolve(load_options.model, revision=load_options.revision, adapter=load_options.adapter)
    job = ScoreJob.for_checkpoint(
        found,
        settings=settings,
        pair=pair,
        transcriber=transcriber,
        load=load_options.load_arguments(SIDE_BY_SIDE if found.small else 1),
    )
    return run_on_ray(job, inputs, str(out), on_ray, lambda row: [_figures(row.summary)], "dialogues")
