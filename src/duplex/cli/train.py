"""``duplex train``: the data, and the two models that are made from it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from duplex.cli.options import debug_option
from duplex.cli.progress import TrainingBar
from duplex.cli.text import plain
from duplex.extras import require

if TYPE_CHECKING:
    from duplex.training import TrainingProgress

__all__ = ["train"]


@click.group(short_help="Make training data, and train a codec and a language model.")
@debug_option
def train() -> None:
    """Make training data, and train a codec and a language model from it.

    Needs the extra "train", and for data apt-get install flite espeak-ng.

    \b
    Two steps to a codec, and two to a model that converses:
      duplex train data --out corpus
      duplex train codec --data corpus --out run
      duplex train dialogues --codec run/codec --out dialogues
      duplex train lm --codec run/codec --data dialogues --out talk
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are


@train.command(short_help="Make speech to train on.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="Folder for the shards.")
@click.option(
    "--recordings",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Take recordings of yours instead of synthesizers.",
)
@click.option("--role", type=click.Choice(["agent", "user"]), default="user", help="Who speaks in the recordings.")
@click.option("--resample", is_flag=True, help="Take recordings of other sample rates too.")
@click.option("--scale", type=float, default=1.0, show_default=True, help="How much: 1 is about eight hours.")
@click.option("--seed", type=int, default=0, show_default=True, help="Other sentences, other draws.")
@click.option("--workers", type=click.IntRange(1), help="Processes. Default: one for each core.")
@debug_option
def data(
    out: Path,
    recordings: Path | None,
    role: Any,
    resample: bool,
    scale: float,
    seed: int,
    workers: int | None,
) -> None:
    """Make speech to train on: made-up sentences, in many voices, by synthesizers that run offline.

    Writes shards of five minutes, 230 MB an hour. Everything that is finished stays when it is interrupted; the same
    command goes on.

    \b
    Examples:
      duplex train data --out corpus
      duplex train data --out corpus --scale 0.01
      duplex train data --out corpus --recordings my-speech
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.training.data import build, plan, plan_recordings  # noqa: PLC0415 -- --help need not wait

    jobs = (
        plan(out, scale=scale, seed=seed)
        if recordings is None
        else plan_recordings(recordings, out, role=role, resample=resample)
    )
    with TrainingBar("shards") as bar:
        made = build(jobs, workers=workers, progress=bar.update)
    click.echo(plain(f"{out}: {len(jobs)} shards, {made} of them made now"))


@train.command(short_help="Train a codec.")
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="Folder of shards.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="The run's folder.")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="F.json", help="A mimi_config.json. Default: a small codec's."
)
@click.option(
    "--start-from", type=click.Path(path_type=Path), metavar="FOLDER", help="A codec whose weights are the first ones."
)
@click.option("--steps", type=click.IntRange(1), help="Default: 10000. May change when a run goes on.")
@click.option("--batch", type=click.IntRange(1), help="Crops in a step, on each device. Default: 4.")
@click.option("--learning-rate", type=float, help="The highest. Default: 0.0012.")
@click.option("--seed", type=int, help="Default: 0.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")
@debug_option
def codec(
    data: Path,
    out: Path,
    config: Path | None,
    start_from: Path | None,
    device: str,
    **settings: Any,
) -> None:
    """Train a codec, or go on with a run that was interrupted.

    The run's folder gets losses.csv, losses.png, samples (what went in, then what came out), checkpoint.pt, and the
    codec itself in the published layout, which --model takes. Several CUDA devices: start it with torchrun.

    \b
    Examples:
      duplex train codec --data corpus --out run
      duplex encode question.wav --model run/codec
      torchrun --nproc-per-node 4 -m duplex train codec --data corpus --out run
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.checkpoints.layout import read_json  # noqa: PLC0415 -- --help need not wait

    require("train", "torch", purpose="training")
    from duplex.training import TINY_CODEC, CodecSettings, train_codec  # noqa: PLC0415

    shape = TINY_CODEC if config is None else read_json(config, str(config))
    chosen = CodecSettings(**{name: value for name, value in settings.items() if value is not None})
    with TrainingBar("steps") as bar:
        trained = train_codec(
            data, out, chosen, config=shape, start_from=start_from, device=device, progress=_telling(bar)
        )
    click.echo(plain(f"{out} -> {trained}"))
    click.echo(plain(f"  listen to {out / 'samples'}, look at {out / 'losses.png'}"))


@train.command(short_help="Make dialogues to train on.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="Folder for the shards.")
@click.option(
    "--recordings", type=click.Path(path_type=Path), metavar="FOLDER", help="Take recorded dialogues of yours instead."
)
@click.option("--codec", default="tiny", show_default=True, metavar="NAME", help="What turns sound into codes.")
@click.option("--tokenizer", metavar="NAME", help="A model whose text tokenizer to use. Default: make a new one.")
@click.option("--scale", type=float, default=1.0, show_default=True, help="How much: 1 is 24 hours.")
@click.option("--seed", type=int, default=0, show_default=True, help="Other dialogues.")
@click.option("--workers", type=click.IntRange(1), help="Processes. Default: one for each core.")
@debug_option
def dialogues(
    out: Path,
    recordings: Path | None,
    codec: str,
    tokenizer: str | None,
    scale: float,
    seed: int,
    workers: int | None,
) -> None:
    """Make dialogues to train on, between the built-in model's agent and many users.

    Questions and answers, pauses, interruptions, "mm-hm", noise, music, echo, and other people's talk. Writes shards of
    ten minutes, as tokens, and a text tokenizer. Everything that is finished stays when it is interrupted; the same
    command goes on. Recorded dialogues are stereo, user left, agent right, each beside the agent's words in a .json.

    \b
    Examples:
      duplex train dialogues --out dialogues
      duplex train dialogues --out dialogues --scale 0.01 --codec run/codec
      duplex train dialogues --out dialogues --recordings my-talks
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    require("train", "torch", purpose="encoding dialogues")
    from duplex.training.data import build  # noqa: PLC0415 -- --help need not wait
    from duplex.training.dialogues import plan_dialogues, plan_recorded_dialogues  # noqa: PLC0415

    jobs = (
        plan_dialogues(out, codec=codec, tokenizer=tokenizer, scale=scale, seed=seed)
        if recordings is None
        else plan_recorded_dialogues(recordings, out, codec=codec, tokenizer=tokenizer, seed=seed)
    )
    with TrainingBar("shards") as bar:
        made = build(jobs, workers=workers, progress=bar.update)
    click.echo(plain(f"{out}: {len(jobs)} shards, {made} of them made now"))


@train.command(short_help="Train a language model.")
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="Folder of dialogues.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="The run's folder.")
@click.option("--codec", default="tiny", show_default=True, metavar="NAME", help="The codec of the dialogues.")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="F.json", help="A config.json. Default: a small model's."
)
@click.option("--start-from", metavar="NAME", help="A model whose weights are the first ones.")
@click.option("--steps", type=click.IntRange(1), help="Default: 8000. May change when a run goes on.")
@click.option("--batch", type=click.IntRange(1), help="Stretches in a step, on each device. Default: 3.")
@click.option("--frames", type=click.IntRange(2), help="Length of a stretch. Default: 500.")
@click.option("--learning-rate", type=float, help="The highest. Default: 0.0015.")
@click.option("--seed", type=int, help="Default: 0.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")
@debug_option
def lm(data: Path, out: Path, codec: str, config: Path | None, device: str, **settings: Any) -> None:
    """Train a language model on dialogues, or go on with a run that was interrupted.

    The run's folder gets losses.csv, losses.png, checkpoint.pt, and the whole model in the published layout, with its
    codec and tokenizer, which --model takes. Several CUDA devices: start it with torchrun.

    \b
    Examples:
      duplex train lm --data dialogues --out talk
      duplex process question.wav --model talk/model --out answers
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.checkpoints.layout import read_json  # noqa: PLC0415 -- --help need not wait

    require("train", "torch", purpose="training")
    from duplex.training.language_model import (  # noqa: PLC0415
        TINY_LANGUAGE_MODEL,
        LanguageModelSettings,
        train_language_model,
    )

    shape = TINY_LANGUAGE_MODEL if config is None else read_json(config, str(config))
    chosen = LanguageModelSettings(**{name: value for name, value in settings.items() if value is not None})
    with TrainingBar("steps") as bar:
        trained = train_language_model(
            data, out, chosen, config=shape, codec=codec, device=device, progress=_telling(bar)
        )
    click.echo(plain(f"{out} -> {trained}"))


def _telling(bar: TrainingBar) -> "Callable[[TrainingProgress], None]":
    def progress(report: "TrainingProgress") -> None:
        losses = report.losses
        bar.update(report.step, report.steps, f"loss {losses['total']:.3f}, {report.speed:.0f} x real time")

    return progress
