"""``duplex models`` and ``duplex info``: what can be loaded, and what it is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from duplex.cli.memory import memories_of, memory_as_json, memory_rows, together
from duplex.cli.options import Option, adapter_option, backend_option, debug_option, device_option
from duplex.cli.text import plain, print_json, size
from duplex.errors import HubError, UsageError
from duplex.extras import require
from duplex.options import MAX_SESSIONS

if TYPE_CHECKING:
    from duplex.backends.shared.memory import Memory
    from duplex.checkpoints.checkpoint import CheckpointInfo
    from duplex.options import Backend
    from duplex.training.language_model import TrainingMemory

__all__ = ["info", "models"]

PUBLISHED = {
    "kyutai/moshika-pytorch-bf16": "Moshi 7B, a female voice, English; 15 GB",
    "kyutai/moshiko-pytorch-bf16": "Moshi 7B, a male voice, English; 15 GB",
    "kyutai/moshika-pytorch-q8": "Moshi 7B, a female voice, English, 8 bit; 8 GB",
    "kyutai/moshiko-pytorch-q8": "Moshi 7B, a male voice, English, 8 bit; 8 GB",
}
"""Well-known repositories of the hub."""
MIMI = "tokenizer-*.safetensors"
json_option: Option = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.command(short_help="List what can be loaded.")
@json_option
@debug_option
def models(as_json: bool) -> None:
    """List what can be loaded: what is built in, what the hub's cache holds, and well-known repositories.

    Any folder or hub repository in the published layout can be loaded too.

    \b
    Examples:
      duplex models
      duplex process question.wav --model kyutai/moshika-pytorch-bf16
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    rows = _rows()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        place = {"built in": "built in", "cached": "on this machine", "hub": "on the hub"}[row["kind"]]
        click.echo(plain(f"{row['name']}  ({place})"))
        click.echo(plain(f"  {row['note']}") if row["note"] else "  see `duplex info` for what it is")


def _rows() -> list[dict[str, str]]:
    from duplex.checkpoints.checkpoint import builtin_names, describe  # noqa: PLC0415 -- `duplex --help` need not wait for it

    rows = [{"name": name, "kind": "built in", "note": describe(name).note} for name in builtin_names()]
    cached = _cached()
    rows += [{"name": name, "kind": "cached", "note": PUBLISHED.get(name, "")} for name in cached]
    rows += [{"name": name, "kind": "hub", "note": note} for name, note in PUBLISHED.items() if name not in cached]
    return rows


def _cached() -> list[str]:
    """Return the repositories in the hub's cache that have a codec, without asking the hub."""
    from duplex.checkpoints.hub_client import hub_cache  # noqa: PLC0415 -- takes half a second

    found: set[str] = set()
    try:
        folder = hub_cache()
    except HubError:  # without a home there is no cache
        return []
    for mimi in folder.glob(f"models--*--*/snapshots/*/{MIMI}"):
        owner, _, name = mimi.parents[2].name.removeprefix("models--").partition("--")
        found.add(f"{owner}/{name}")
    return sorted(found)


@click.command(short_help="Tell what a checkpoint is.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--revision", help="A branch, tag or commit of a hub repository.")
@adapter_option
@click.option(
    "--sessions", type=click.IntRange(1, MAX_SESSIONS), default=1, show_default=True, help="Memory for so many."
)
@click.option("--lora", type=click.IntRange(1), metavar="RANK", help="Memory for the training of an adapter, too.")
@backend_option
@device_option
@json_option
@debug_option
def info(
    names: tuple[str, ...],
    revision: str | None,
    adapter: str | None,
    sessions: int,
    lora: int | None,
    backend: Any,
    device: str,
    as_json: bool,
) -> None:
    """Tell what a checkpoint is, without loading its weights: a built-in name, a folder, or owner/name on the hub.

    Also how much memory it would take, in each kind of numbers that it can be loaded in; of several models, what they
    take together.

    \b
    Examples:
      duplex info tiny
      duplex info kyutai/moshika-pytorch-bf16 --sessions 32
      duplex info kyutai/moshika-pytorch-bf16 kyutai/stt-1b-en_fr
      duplex info kyutai/moshika-pytorch-bf16 --lora 128
      duplex info kyutai/moshika-pytorch-bf16 --json
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    if len(names) > 1 and (revision or adapter or lora):
        raise UsageError("--revision, --adapter and --lora are of one model; ask for one at a time")
    memories: list[tuple[str, list[Memory]]] = []
    told: list[dict[str, Any]] = []
    for name in names or ("tiny",):
        described, predicted, rows = _described(
            name, revision, adapter, lora, backend=backend, device=device, sessions=sessions
        )
        memories.append((name, predicted))
        told.append(described)
        if not as_json:
            _print_table(rows)
            click.echo("", nl=len(names) > 1)
    sums = together(memories) if len(told) > 1 else []
    if as_json:
        print_json({"models": told, "together": sums} if len(told) > 1 else told[0])
    elif sums:
        _print_table([(f"together, {each['how']}", size(each["total_bytes"])) for each in sums])


def _described(
    name: str,
    revision: str | None,
    adapter: str | None,
    lora: int | None,
    *,
    backend: "Backend",
    device: str,
    sessions: int,
) -> tuple[dict[str, Any], "list[Memory]", list[tuple[str, str]]]:
    """Return what a checkpoint is, for machines and for people, and what it takes."""
    from duplex.checkpoints.checkpoint import describe  # noqa: PLC0415 -- `duplex --help` need not wait for it

    description = describe(name, revision, adapter=adapter)
    memories = list(memories_of(description, backend=backend, device=device, sessions=sessions))
    trainings = {} if lora is None else _trainings(description, lora)
    described = description.as_json()
    rows = [(f"training, {how}", str(memory).removeprefix("memory: ")) for how, memory in trainings.items()]
    rows = [*_rows_of(described), *memory_rows(memories), *rows]
    training = [{"how": how, "total_bytes": memory.total} for how, memory in trainings.items()]
    described |= {"memory": [memory_as_json(memory) for memory in memories], "training": training}
    return described, memories, rows


KINDS: Mapping[str, str] = {
    "moshi": "moshi: dialogue",
    "personaplex": "personaplex: dialogue, with a persona (--instructions, --voice)",
    "stt": "stt: recognition of speech",
    "hibiki": "hibiki: translation of speech",
    "tts": "tts: synthesis of speech",
}


def _trainings(description: "CheckpointInfo", rank: int) -> "dict[str, TrainingMemory]":
    """Return what the training of an adapter takes, of one segment of 100 s at a time, by what the model is held in.

    :raises UsageError: if it is a codec alone
    """
    require("torch", "torch", purpose="predicting a training's memory")
    from duplex.training.language_model import LanguageModelSettings, LoraSettings, predict_training  # noqa: PLC0415

    shape = description.language_model
    if shape is None:
        raise UsageError(f"'{description.name}' is a codec alone, and --lora is for language models; leave it out")
    choices = {base: LoraSettings(rank=rank, base=base) for base in ("bfloat16", "int8")}
    return {
        f"--lora {rank} --base {base}": predict_training(
            shape, LanguageModelSettings.fine_tuning(description.name, lora), codec=description.mimi
        )
        for base, lora in choices.items()
    }


def _rows_of(described: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        *_general(described),
        *_model(described["model"]),
        *_adapter(described["adapter"]),
        *_codec(described["codec"]),
    ]


def _print_table(rows: list[tuple[str, str]]) -> None:
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        click.echo(plain(f"{label:<{width}}  {value}".rstrip()))


def _general(described: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("name", f"{described['name']} ({described['kind']})")]
    if described["revision"]:
        rows.append(("revision", described["revision"]))
    rows.append(("type", KINDS.get(described["model_type"]) or described["model_type"]))
    if described["note"]:
        rows.append(("note", " ".join(described["note"].split())))
    return rows


def _adapter(adapter: dict[str, Any] | None) -> list[tuple[str, str]]:
    if adapter is None:
        return []
    ranks = " and ".join(str(rank) for rank in adapter["ranks"])
    added = f"rank {ranks}, scaling {adapter['scaling']:g}, to {adapter['adapted']} matrices; " if ranks else ""
    replaced = f"replaces {adapter['replaced']} tensors; " if adapter["replaced"] else ""
    name = f"{adapter['name']}: " + (f"revision {adapter['revision']}, " if adapter["revision"] else "")
    return [("adapter", f"{name}{added}{replaced}{_weights(adapter['weights'])}")]


def _model(model: dict[str, Any] | None) -> list[tuple[str, str]]:
    if model is None:
        return [("model", "none: this is a codec alone")]
    sampling = model["sampling"]
    return [
        ("weights", _weights(model["weights"])),
        ("temporal transformer", f"{model['layers']} layers of {model['dimension']}, {model['heads']} heads"),
        (
            "depth transformer",
            f"{model['depth_layers']} layers of {model['depth_dimension']}, {model['depth_heads']} heads",
        ),
        ("streams", f"text 1, agent {model['agent_streams']}, user {model['user_streams']}"),
        ("delays", " ".join(str(delay) for delay in model["delays"])),
        ("context", f"{model['context']} frames, {model['context_seconds']:g} s"),
        ("vocabularies", f"text {model['text_vocabulary']}, audio {model['audio_vocabulary']}"),
        ("tokenizer", "none" if model["tokenizer_pieces"] is None else f"{model['tokenizer_pieces']} pieces"),
        (
            "sampling",
            f"temperature {sampling['temperature']:g}, top-k {sampling['top_k']}",
        ),
        (
            "sampling of text",
            f"temperature {sampling['text_temperature']:g}, top-k {sampling['text_top_k']}",
        ),
        *([("voices", ", ".join(model["voices"]))] if model["voices"] else []),
    ]


def _codec(codec: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("codec weights", _weights(codec["weights"])),
        (
            "codec",
            f"{codec['sample_rate']} Hz, {codec['frame_rate']:g} frames of {codec['frame_size']} samples a second",
        ),
        ("codebooks", f"{codec['codebooks']} of {codec['codebook_size']} codes"),
        ("codebooks in use", f"{codec['codebooks_used']}, {codec['bits_per_second'] / 1000:.3g} kbit/s"),
        ("codec transformers", f"{codec['transformer_layers']} layers of {codec['dimension']}"),
    ]


def _weights(weights: dict[str, Any]) -> str:
    kinds = ", ".join(sorted(weights["parameters"]))
    return f"{size(weights['total_parameters'], '')} numbers ({kinds}), {size(weights['total_bytes'])}"
