"""``duplex evaluate``: published benchmarks."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import click

from duplex.cli.options import LoadOptions, debug_option, dialogue_options
from duplex.cli.process import SIDE_BY_SIDE
from duplex.cli.progress import FileBars
from duplex.cli.text import plain
from duplex.errors import UsageError
from duplex.options import SessionOptions

__all__ = ["evaluate"]


@click.group(short_help="Run a published benchmark.")
def evaluate() -> None:
    """Run a published benchmark's folder through a model.

    \b
    Examples:
      duplex evaluate make-full-duplex-bench made --samples 20
      duplex evaluate full-duplex-bench made
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are


@evaluate.command("full-duplex-bench", short_help="Full-Duplex-Bench, v1.0 and v1.5.")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--out", type=click.Path(path_type=Path), default="full-duplex-bench", show_default=True)
@click.option("--transcriber", metavar="whisper:NAME", help="Words from the audio, not the inner monologue.")
@click.option("--human", type=click.Path(path_type=Path), metavar="FILE", help="The authors' icc_gt_distribution.json.")
@click.option("--force", is_flag=True, help="Run again what is finished; replace other outputs.")
@dialogue_options
def full_duplex_bench(
    folder: Path,
    out: Path,
    transcriber: str | None,
    human: Path | None,
    force: bool,
    load_options: LoadOptions,
    options: SessionOptions,
) -> int:
    """Run Full-Duplex-Bench: output.wav and output.json into its folders, and the figures that need no judge.

    DIR is the benchmark in its published layout, TASK/ID/input.wav with an annotation, one of its tasks, or a sample.
    The authors' own scripts run on what is written. A run that was killed goes on where it was.

    \b
    Examples:
      duplex evaluate full-duplex-bench v1.0 --out results
      duplex evaluate full-duplex-bench v1.0/candor_turn_taking --model kyutai/moshiko-pytorch-bf16
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    import duplex  # noqa: PLC0415 -- `duplex --help` need not wait for it
    from duplex.checkpoints import checkpoint  # noqa: PLC0415
    from duplex.evaluating import evaluate as run  # noqa: PLC0415
    from duplex.evaluating import find_samples, read_distribution  # noqa: PLC0415
    from duplex.process import Progress  # noqa: PLC0415
    from duplex.transcription.loading import WHISPER, load_whisper  # noqa: PLC0415

    if transcriber is not None and not transcriber.startswith(WHISPER):
        raise UsageError(f"--transcriber {transcriber} is no Whisper model; give whisper:NAME")
    samples = find_samples(folder)
    distribution = None if human is None else read_distribution(human)
    found = checkpoint.resolve(load_options.model, revision=load_options.revision, adapter=load_options.adapter)
    sessions = load_options.sessions or (min(len(samples), SIDE_BY_SIDE) if found.small else 1)
    arguments: dict[str, Any] = load_options.load_arguments(sessions) | {"revision": found.revision}
    arguments |= load_options.guided(options)
    with ExitStack() as stack:
        listener = None if transcriber is None else stack.enter_context(load_whisper(transcriber))
        model = stack.enter_context(duplex.load(load_options.model, **arguments))
        bars = stack.enter_context(FileBars())

        def progress(news: Progress) -> None:
            bars.update(str(news.recording.path), news.seconds, news.duration, over=news.result is not None)
            bars.update_total(news.done, news.total)

        content = anyio.run(
            lambda: run(
                model,
                folder,
                out,
                options=options,
                transcriber=listener,
                human=distribution,
                force=force,
                progress=progress,
            )
        )
    _report(content)
    return 0


@evaluate.command("make-full-duplex-bench", short_help="A small set in its layout, by synthesizers.")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--samples", type=click.IntRange(1, 1000), default=10, show_default=True, help="Of each of eight sets.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Other sentences, other draws.")
@debug_option
def make_full_duplex_bench(folder: Path, samples: int, seed: int) -> int:
    """Make a small benchmark in the layout of Full-Duplex-Bench, v1.0 and v1.5, with exact times.

    The users are synthesizers. Needs the extra "train", and apt-get install flite espeak-ng.

    \b
    Example:
      duplex evaluate make-full-duplex-bench made --samples 20
      duplex evaluate full-duplex-bench made --human made/icc_gt_distribution.json
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.training.dialogues.benchmark import write_benchmark  # noqa: PLC0415 -- it imports synthesizers

    count = write_benchmark(folder, samples, seed=seed)
    click.echo(plain(f"{count} samples -> {folder}"))
    return 0


def _report(content: dict[str, Any]) -> None:
    """Print the figures, and the published ones below."""
    click.echo(plain(f"{content['model']}, words: {content['words']}"))
    for subset, figures in content["figures"].items():
        told = ", ".join(
            f"{name.replace('_', ' ')} {_number(value)}"
            for name, value in figures.items()
            if name not in {"task", "samples"}
        )
        click.echo(plain(f"  {subset} ({figures['task']}, {figures['samples']} samples): {told}"))
    click.echo("published, v1.0, words by speech recognition (take-over, and latency in seconds):")
    for name, row in content["published"].items():
        click.echo(
            f"  {name}: pauses {row['pause_handling_synthetic_take_over']:.3f} / "
            f"{row['pause_handling_candor_take_over']:.3f}, backchannel {row['backchannel_take_over']:.3f} "
            f"({row['backchannel_frequency']:.3f} a second, jsd {row['backchannel_jsd']:.3f}), turns "
            f"{row['smooth_turn_taking_take_over']:.3f} at {row['smooth_turn_taking_latency']:.3f}, interruptions "
            f"{row['user_interruption_take_over']:.3f} at {row['user_interruption_latency']:.3f}"
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
