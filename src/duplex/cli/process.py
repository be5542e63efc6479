"""``duplex process``: recorded dialogues."""

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from duplex.cli.options import LoadOptions, dialogue_options, transcriber_option, user_channel_option
from duplex.cli.progress import FileBars
from duplex.cli.ray import RayOptions, ray_options, run_on_ray
from duplex.cli.text import plain, report_error, tell_passed_over, truncate
from duplex.options import SessionOptions

if TYPE_CHECKING:
    from duplex.checkpoints.checkpoint import Checkpoint
    from duplex.process import Plan, Recipe, Recording, Result

__all__ = ["SIDE_BY_SIDE", "process"]

SIDE_BY_SIDE = 8
"""How many conversations of a small model run side by side, if nobody says."""


@click.command(short_help="Run recorded audio through the model.")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("--out", type=click.Path(), default="out", show_default=True, help="Folder for the results.")
@user_channel_option
@click.option("--both", is_flag=True, help="Process each stereo recording twice: each side once as the user.")
@click.option("--tail", type=float, default=0.0, metavar="SECONDS", help="Go on with silence, so no reply is cut off.")
@transcriber_option
@click.option("--force", is_flag=True, help="Process again what is finished; replace other results.")
@ray_options
@dialogue_options
def process(
    inputs: tuple[str, ...],
    *,
    out: str,
    user_channel: Any,
    both: bool,
    tail: float,
    transcriber: str | None,
    force: bool,
    on_ray: RayOptions | None,
    load_options: LoadOptions,
    options: SessionOptions,
) -> int:
    """Run recorded audio through the model, as the user's side of a dialogue.

    IN is a recording (wav, flac, mp3, ogg, m4a, a video, ...), a folder of recordings, a pattern, a pipe, or - for the
    standard input. For each, a folder
    below --out gets agent.wav, dialogue.wav (user left, agent right), transcript.json, events.jsonl, tokens.safetensors
    and run.json. What is finished already is skipped.

    \b
    Examples:
      duplex process question.wav
      duplex process recordings --out results --tail 5
      sox call.raw -t wav - | duplex process -
      duplex process "calls/*.flac" --user-channel left --model kyutai/moshika-pytorch-bf16
      duplex process /shared/calls --out /shared/results --ray auto
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.checkpoints import checkpoint  # noqa: PLC0415 -- `duplex --help` need not wait for it
    from duplex.engine.loading import check_beginning, check_choice  # noqa: PLC0415
    from duplex.process import Plan, Recipe, both_sides, check_sides, find_recordings, spooled  # noqa: PLC0415

    check_sides(user_channel, both=both)
    passed_over: list[Path] = []
    recordings = [] if on_ray else find_recordings(inputs, out, passed_over=passed_over.append)
    tell_passed_over(passed_over)
    Recipe(model=load_options.model, options=options, tail=tail)  # complains of options, before anything is downloaded
    if on_ray is None:  # else a worker's machine decides
        check_choice(
            backend=load_options.backend,
            device=load_options.device,
            dtype=load_options.dtype,
            quantize=load_options.quantize,
            cache_dtype=load_options.cache_dtype,
        )
    found = checkpoint.resolve(load_options.model, revision=load_options.revision, adapter=load_options.adapter)
    check_beginning(found, options)
    recipe = Recipe(
        model=load_options.model,
        revision=found.revision,
        fingerprint=found.fingerprint,
        adapter=None if found.adapter is None else found.adapter.pinned,
        options=options.with_defaults(found.defaults),
        user_channel=user_channel,
        tail=tail,
        settings=load_options.settings()
        | _voice_file(options)
        | ({} if transcriber is None else {"transcriber": transcriber}),
    )
    if on_ray is not None:
        return _on_ray(
            on_ray, inputs, out, recipe, found, load_options, both=both, force=force, transcriber=transcriber
        )
    report = _Report()
    with spooled(recordings) as copied:
        plan = Plan.make(both_sides(copied) if both else copied, out, recipe, force=force)
        for result in plan.results:
            report.report(result)
        if plan.tasks:
            _carry_out(plan, load_options, found, report, transcriber)
    report.summary()
    return 1 if report.counts["failed"] else 0


def _voice_file(options: SessionOptions) -> dict[str, str]:
    """Return what tells a voice's file from another of the same name."""
    if options.voice is None or not Path(options.voice).is_file():
        return {}
    with Path(options.voice).open("rb") as file:
        return {"voice_sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _carry_out(
    plan: "Plan", load_options: LoadOptions, found: "Checkpoint", report: "_Report", transcriber: str | None
) -> None:
    import duplex  # noqa: PLC0415
    from duplex.process import Progress, carry_out  # noqa: PLC0415
    from duplex.transcription.loading import load_transcriber  # noqa: PLC0415

    sessions = load_options.sessions or _sessions(plan, found)
    loading = load_options.load_arguments(sessions) | load_options.guided(plan.recipe.options)
    listening = nullcontext() if transcriber is None else load_transcriber(transcriber, sessions=sessions)
    with (
        listening as loaded,
        duplex.load(load_options.model, **loading | _pinned(load_options, found)) as model,
    ):
        bars = FileBars()

        def progress(news: Progress) -> None:
            bars.update(_label(news.recording), news.seconds, news.duration, over=news.result is not None)
            bars.update_total(news.done, news.total)
            if news.result is not None:
                bars.after(lambda result=news.result: report.report(result))

        with bars:
            anyio.run(lambda: carry_out(model, plan, progress=progress, transcriber=loaded))


def _on_ray(
    on_ray: RayOptions,
    inputs: Sequence[str],
    out: str,
    recipe: "Recipe",
    found: "Checkpoint",
    load_options: LoadOptions,
    **chosen: Any,
) -> int:
    from duplex.cluster.batch import ProcessJob  # noqa: PLC0415

    loading = load_options.load_arguments(SIDE_BY_SIDE if found.small else 1) | load_options.guided(recipe.options)
    job = ProcessJob(recipe=recipe, load=loading | _pinned(load_options, found), small=found.small, **chosen)
    return run_on_ray(job, inputs, out, on_ray, lambda row: _lines(seconds=row.seconds, **row.summary), "recordings")


def _lines(
    *, text: str, user_text: str, seconds: float, real_time_factor: float | None, cut_short: bool = False
) -> list[str]:
    """Return what is said of a recording's results."""
    del cut_short  # that is a note
    lines = [f"user: {truncate(plain(user_text))}"] if user_text else []
    if text or not user_text:
        lines.append(f"agent: {truncate(plain(text)) or '(no words)'}")
    factor = "unknown" if real_time_factor is None else f"{real_time_factor:.2f}"
    return [*lines, f"{seconds:.2f} s of audio, real-time factor {factor}"]


def _label(recording: "Recording") -> str:
    side = "" if recording.side is None else f" (user: {recording.side})"
    return f"{recording.path}{side}"


def _pinned(load_options: LoadOptions, found: "Checkpoint") -> dict[str, Any]:
    """Return the commits of what was found: a branch may have moved since."""
    adapter = found.adapter.pinned if load_options.adapter and found.adapter else None
    return {"revision": found.revision, "adapter": adapter}


def _sessions(plan: "Plan", found: "Checkpoint") -> int:
    """Choose how many run side by side: each costs a large model gigabytes."""
    return min(len(plan.tasks), SIDE_BY_SIDE) if found.small else 1


class _Report:
    """Tells the user what became of each recording."""

    def __init__(self) -> None:
        self.counts = {"done": 0, "skipped": 0, "failed": 0}

    def report(self, result: "Result") -> None:
        self.counts[result.status] += 1
        if result.error is not None:
            report_error(result.error, debug=bool(click.get_current_context().find_root().obj))
            return
        finished = " (finished before)" if result.status == "skipped" else ""
        click.echo(plain(f"{result.recording.path} -> {result.folder}{finished}"))
        for line in _lines(
            text=result.text,
            user_text=result.user_text,
            seconds=result.seconds,
            real_time_factor=result.real_time_factor,
        ):
            click.echo(f"  {line}")
        if result.cut_short:
            name = plain(str(result.recording.path))
            click.echo(f"duplex: note: {name} was cut short; what is there was processed. Get the whole file", err=True)

    def summary(self) -> None:
        if sum(self.counts.values()) > 1:
            counts = ", ".join(f"{count} {status}" for status, count in self.counts.items() if count)
            click.echo(counts, err=True)
