"""``duplex train``: the data, and the two models that are made from it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from duplex.cli.options import debug_option
from duplex.cli.progress import TrainingBar
from duplex.cli.text import plain
from duplex.errors import UsageError
from duplex.extras import require

if TYPE_CHECKING:
    from duplex.training import TrainingProgress
    from duplex.training.language_model import LanguageModelSettings

__all__ = ["train"]

_PRECISION = click.option(
    "--precision",
    type=click.Choice(["bfloat16", "float32"]),
    help="What products are computed in; some CPUs are faster in float32. Default: bfloat16.",
)


@click.group(short_help="Make training data, and train a codec and a language model.")
@debug_option
def train() -> None:
    """Make training data, and train a codec and a language model from it.

    Needs the extra "train", and for data apt-get install flite espeak-ng. Two steps make a codec, and two more a model
    that converses.

    \b
    Examples:
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
@click.option("--decoder", is_flag=True, help="Learn --start-from's decoder alone.")
@click.option(
    "--adversarial-steps", type=click.IntRange(0), help="With --decoder: its last steps, against discriminators."
)
@click.option("--steps", type=click.IntRange(1), help="Default: 10000, or 12000. May change when a run goes on.")
@click.option("--batch", type=click.IntRange(1), help="Crops in a step, on each device. Default: 4, or 6.")
@click.option("--learning-rate", type=float, help="The highest. Default: 0.0012, or 0.0006.")
@click.option("--seed", type=int, help="Default: 0.")
@_PRECISION
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")
@debug_option
def codec(
    data: Path,
    out: Path,
    config: Path | None,
    start_from: Path | None,
    decoder: bool,
    adversarial_steps: int | None,
    device: str,
    **settings: Any,
) -> None:
    """Train a codec, or go on with a run that was interrupted.

    The run's folder gets losses.csv, losses.png, samples (what went in, then what came out), checkpoint.pt, and the
    codec itself in the published layout, which --model takes. Several CUDA devices: start it with torchrun.

    With --decoder only the decoder learns: what --start-from has encoded stays valid. The second of two defaults is for
    that.

    \b
    Examples:
      duplex train codec --data corpus --out run
      duplex encode question.wav --model run/codec
      duplex train codec --data corpus --out run-2 --start-from run/codec --decoder
      torchrun --nproc-per-node 4 -m duplex train codec --data corpus --out run
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    require("train", "torch", purpose="training")
    chosen = {name: value for name, value in settings.items() if value is not None}
    if decoder and adversarial_steps is not None:
        chosen["adversarial_steps"] = adversarial_steps
    elif adversarial_steps is not None:
        raise UsageError("--adversarial-steps are of a decoder's training; add --decoder")
    run = _decoder_run(config, start_from, chosen) if decoder else _codec_run(config, start_from, chosen)
    _train(out, lambda progress: run(data, out, device=device, progress=progress))


def _codec_run(config: Path | None, start_from: Path | None, settings: dict[str, Any]) -> "Callable[..., Path]":
    from duplex.checkpoints.layout import read_json  # noqa: PLC0415 -- --help need not wait
    from duplex.training import TINY_CODEC, CodecSettings, train_codec  # noqa: PLC0415

    shape = TINY_CODEC if config is None else read_json(config, str(config))
    return partial(train_codec, settings=CodecSettings(**settings), config=shape, start_from=start_from)


def _decoder_run(config: Path | None, start_from: Path | None, settings: dict[str, Any]) -> "Callable[..., Path]":
    if start_from is None or config is not None:
        raise UsageError("--decoder trains the decoder of a codec as it is; give --start-from, and no --config")
    from duplex.training import DecoderSettings, train_decoder  # noqa: PLC0415

    return partial(train_decoder, settings=DecoderSettings(**settings), start_from=start_from)


@train.command(short_help="Make dialogues to train on.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="Folder for the shards.")
@click.option(
    "--recordings", type=click.Path(path_type=Path), metavar="FOLDER", help="Take recorded dialogues of yours instead."
)
@click.option("--transcriber", metavar="whisper:NAME", help="A Whisper model, for --recordings without the words.")
@click.option("--codec", default="tiny", show_default=True, metavar="NAME", help="What turns sound into codes.")
@click.option("--tokenizer", metavar="NAME", help="A model whose text tokenizer to use. Default: make a new one.")
@click.option("--styles", type=click.Path(path_type=Path), metavar="FOLDER", help="More voices: *.bin of kokoro-js.")
@click.option("--scale", type=float, default=1.0, show_default=True, help="How much: 1 is 24 hours.")
@click.option("--seed", type=int, default=0, show_default=True, help="Other dialogues.")
@click.option("--workers", type=click.IntRange(1), help="Processes. Default: one for each core.")
@debug_option
def dialogues(
    out: Path,
    recordings: Path | None,
    transcriber: str | None,
    styles: Path | None,
    scale: float,
    workers: int | None,
    **choices: Any,
) -> None:
    """Make dialogues to train on, between the built-in model's agent and many users.

    Questions and answers, pauses, interruptions, "mm-hm", noise, music, echo, and other people's talk. Writes shards of
    ten minutes, as tokens, and a text tokenizer. Everything that is finished stays when it is interrupted; the same
    command goes on. Recorded dialogues are stereo, user left, agent right, each beside the agent's words in a .json, or
    with a --transcriber that hears them.

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
        plan_dialogues(out, styles=styles, scale=scale, **choices)
        if recordings is None
        else plan_recorded_dialogues(recordings, out, transcriber=transcriber, **choices)
    )
    with TrainingBar("shards") as bar:
        made = build(jobs, workers=workers, progress=bar.update)
    click.echo(plain(f"{out}: {len(jobs)} shards, {made} of them made now"))


@train.command(short_help="Train a language model.")
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="Folder of dialogues.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="The run's folder.")
@click.option(
    "--codec", metavar="NAME", help="The codec of the dialogues. Default: that of --start-from, or the built-in one."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="F.json",
    help="A config.json. Default: that of --start-from, or a small model's.",
)
@click.option("--start-from", metavar="NAME", help="A model whose weights are the first ones.")
@click.option("--teacher", metavar="NAME", help="A model that is learnt from too, where it is right.")
@click.option(
    "--lora", type=click.IntRange(1), metavar="RANK", help="Learn an adapter for --start-from, and not the model."
)
@click.option("--lora-scaling", type=float, metavar="FACTOR", help="What the adapter is multiplied by. Default: 2.")
@click.option("--embeddings", is_flag=True, help="With --lora: learn the embeddings too, whole.")
@click.option(
    "--base",
    type=click.Choice(["float32", "bfloat16", "int8"]),
    help="With --lora: what the model is held in. Default: bfloat16.",
)
@click.option("--steps", type=click.IntRange(1), help="Default: 8000, or 2000. May change when a run goes on.")
@click.option("--batch", type=click.IntRange(1), help="Stretches at a time, on each device. Default: 3, or 1.")
@click.option("--accumulate", type=click.IntRange(1), help="So many times in a step. Default: 1, or 16.")
@click.option("--frames", type=click.IntRange(2), help="Length of a stretch. Default: 500, or 1250.")
@click.option("--learning-rate", type=float, help="The highest. Default: 0.0015, or 0.000002.")
@click.option("--seed", type=int, help="Default: 0.")
@_PRECISION
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")
@debug_option
def lm(data: Path, out: Path, codec: str | None, config: Path | None, device: str, **choices: Any) -> None:
    """Train a language model on dialogues, or go on with a run that was interrupted.

    The run's folder gets losses.csv, losses.png, samples (user left, agent right), checkpoint.pt, and the whole model
    in the published layout, with its codec and tokenizer, which --model takes. Several devices: start it with torchrun,
    a process for each; --batch is what each of them takes.

    With --lora the model stays as it is, and what is learnt beside it is an adapter, in the folder "adapter", which
    --adapter takes. The second of two defaults is for that: they are those of the published fine-tuning.

    With --teacher, say the model of --start-from, a model forgets less of what it knew and the dialogues have not.

    \b
    Examples:
      duplex train lm --data dialogues --out talk
      duplex process question.wav --model talk/model --out answers
      duplex train lm --data dialogues --out mine --start-from kyutai/moshika-pytorch-bf16 --lora 128
      torchrun --nproc-per-node 4 -m duplex train lm --data dialogues --out talk
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.checkpoints.layout import read_json  # noqa: PLC0415 -- --help need not wait

    require("train", "torch", purpose="training")
    from duplex.training.language_model import train_language_model  # noqa: PLC0415

    shape = None if config is None else read_json(config, str(config))
    settings = _settings(choices)
    _train(
        out,
        lambda progress: train_language_model(
            data,
            out,
            settings,
            config=shape,
            codec=codec,
            device=device,
            progress=progress,
            told=lambda memory: click.echo(plain(str(memory)), err=True),
        ),
    )


def _settings(choices: dict[str, Any]) -> "LanguageModelSettings":
    """Return the settings that were given, with the defaults for adapters where one is to be learnt.

    :raises UsageError: if something of an adapter is given and no rank, or no model that it is for
    """
    from duplex.training.language_model import LanguageModelSettings, LoraSettings  # noqa: PLC0415

    own = {"lora": "rank", "lora_scaling": "scaling", "embeddings": "embeddings", "base": "base"}
    lora = {own[name]: choices.pop(name) for name in own}
    given = {name: value for name, value in lora.items() if value}
    settings = {name: value for name, value in choices.items() if value is not None}
    if "rank" not in given:
        if given:
            raise UsageError("--lora-scaling, --embeddings and --base are for adapters; give --lora RANK with them")
        return LanguageModelSettings(**settings)
    return LanguageModelSettings.fine_tuning(settings.pop("start_from", None), LoraSettings(**given), **settings)


def _train(out: Path, run: "Callable[[Callable[[TrainingProgress], None]], Path]") -> None:
    """Train, and tell how far it is and where the result is; of several processes only the first one does."""
    from duplex.training.distributed import is_main_process  # noqa: PLC0415 -- --help need not wait

    with TrainingBar("steps", shown=is_main_process()) as bar:

        def progress(report: "TrainingProgress") -> None:
            losses = report.losses
            bar.update(report.step, report.steps, f"loss {losses['total']:.3f}, {report.speed:.0f} x real time")

        trained = run(progress)
    if is_main_process():
        click.echo(plain(f"{out} -> {trained}"))
        click.echo(plain(f"  listen to {out / 'samples'}, look at {out / 'losses.png'}"))
