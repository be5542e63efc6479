"""``duplex process``: recorded dialogues."""

from typing import TYPE_CHECKING, Any

import anyio
import click

from duplex.cli.options import Choice, dialogue_options, user_channel_option
from duplex.cli.progress import FileBars
from duplex.cli.text import plain, shortened, tell
from duplex.options import SessionOptions

if TYPE_CHECKING:
    from duplex.checkpoints.checkpoint import Checkpoint
    from duplex.process import Plan, Result

__all__ = ["process"]

SMALL = 1_000_000_000
"""Bytes of weights below which several conversations side by side are a matter of course."""
SIDE_BY_SIDE = 8


@click.command(short_help="Run recorded audio through the model.")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("--out", type=click.Path(), default="out", show_default=True, help="Folder for the results.")
@user_channel_option
@click.option("--tail", type=float, default=0.0, metavar="SECONDS", help="Go on with silence, so no reply is cut off.")
@click.option("--force", is_flag=True, help="Process again what is finished; replace other results.")
@dialogue_options
def process(
    inputs: tuple[str, ...],
    out: str,
    user_channel: Any,
    tail: float,
    force: bool,
    choice: Choice,
    options: SessionOptions,
) -> int:
    """Run recorded audio through the model, as the user's side of a dialogue.

    IN is a recording (wav, flac, mp3, ogg, m4a, a video, ...), a folder of recordings or a pattern. For each, a folder
    below --out gets agent.wav, dialogue.wav (user left, agent right), transcript.json, events.jsonl, tokens.safetensors
    and run.json. What is finished already is skipped.

    \b
    Examples:
      duplex process question.wav
      duplex process recordings --out results --tail 5
      duplex process "calls/*.flac" --user-channel left --model kyutai/moshika-pytorch-bf16
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.checkpoints import checkpoint  # noqa: PLC0415 -- `duplex --help` need not wait for it
    from duplex.engine.model import check_choice  # noqa: PLC0415
    from duplex.process import Plan, Recipe, find_recordings  # noqa: PLC0415

    recordings = find_recordings(inputs, out)
    Recipe(model=choice.model, options=options, tail=tail)  # complains of options, before anything is downloaded
    check_choice(
        backend=choice.backend,
        device=choice.device,
        dtype=choice.dtype,
        quantize=choice.quantize,
        cache_dtype=choice.cache_dtype,
    )
    found = checkpoint.resolve(choice.model, revision=choice.revision)
    recipe = Recipe(
        model=choice.model,
        revision=found.revision,
        fingerprint=found.fingerprint,
        options=options.with_defaults(found.defaults),
        user_channel=user_channel,
        tail=tail,
        settings=choice.settings(),
    )
    plan = Plan.make(recordings, out, recipe, force=force)
    report = _Report()
    for result in plan.results:
        report.tell(result)
    if plan.tasks:
        _carry_out(plan, choice, found, report)
    report.summary()
    return 1 if report.counts["failed"] else 0


def _carry_out(plan: "Plan", choice: Choice, found: "Checkpoint", report: "_Report") -> None:
    import duplex  # noqa: PLC0415
    from duplex.process import Progress, carry_out  # noqa: PLC0415

    with duplex.load(
        choice.model,
        revision=found.revision,  # the commit: a branch may have moved since
        backend=choice.backend,
        device=choice.device,
        dtype=choice.dtype,
        quantize=choice.quantize,
        cache_dtype=choice.cache_dtype,
        sessions=choice.sessions or _sessions(plan, found),
        deterministic=choice.deterministic,
    ) as model:
        bars = FileBars()

        def progress(news: Progress) -> None:
            bars.update(str(news.recording.path), news.seconds, news.duration, over=news.result is not None)
            bars.update_total(news.done, news.total)
            if news.result is not None:
                bars.after(lambda result=news.result: report.tell(result))

        with bars:
            anyio.run(lambda: carry_out(model, plan, progress=progress))


def _sessions(plan: "Plan", found: "Checkpoint") -> int:
    """Choose how many run side by side: each costs a large model gigabytes."""
    small = found.weights is not None and found.weights.stat().st_size < SMALL
    return min(len(plan.tasks), SIDE_BY_SIDE) if small else 1


class _Report:
    """Tells the user what became of each recording."""

    def __init__(self) -> None:
        self.counts = {"done": 0, "skipped": 0, "failed": 0}

    def tell(self, result: "Result") -> None:
        self.counts[result.status] += 1
        if result.error is not None:
            tell(result.error, debug=bool(click.get_current_context().find_root().obj))
            return
        finished = " (finished before)" if result.status == "skipped" else ""
        click.echo(plain(f"{result.recording.path} -> {result.folder}{finished}"))
        click.echo(f"  agent: {shortened(plain(result.text)) or '(no words)'}")
        factor = "unknown" if result.real_time_factor is None else f"{result.real_time_factor:.2f}"
        click.echo(f"  {result.seconds:.2f} s of audio, real-time factor {factor}")
        if result.cut_short:
            name = plain(str(result.recording.path))
            click.echo(f"duplex: note: {name} was cut short; what is there was processed. Get the whole file", err=True)

    def summary(self) -> None:
        if sum(self.counts.values()) > 1:
            counts = ", ".join(f"{count} {status}" for status, count in self.counts.items() if count)
            click.echo(counts, err=True)
