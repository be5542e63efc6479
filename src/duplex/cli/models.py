"""``duplex models`` and ``duplex info``: what can be loaded, and what it is."""

from pathlib import Path
from typing import Any

import click

from duplex.cli.options import debug_option
from duplex.cli.text import plain, print_json, size

__all__ = ["info", "models"]

PUBLISHED = {
    "kyutai/moshika-pytorch-bf16": "Moshi 7B, a female voice, English; 15 GB",
    "kyutai/moshiko-pytorch-bf16": "Moshi 7B, a male voice, English; 15 GB",
    "kyutai/moshika-pytorch-q8": "Moshi 7B, a female voice, English, 8 bit; 8 GB",
    "kyutai/moshiko-pytorch-q8": "Moshi 7B, a male voice, English, 8 bit; 8 GB",
}
"""Well-known repositories of the hub."""
MIMI = "tokenizer-*.safetensors"
json_option = click.option("--json", "as_json", is_flag=True, help="For machines.")


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
    from duplex.checkpoint import builtin_names, describe  # noqa: PLC0415 -- `duplex --help` need not wait for it

    rows = [{"name": name, "kind": "built in", "note": describe(name).note} for name in builtin_names()]
    cached = _cached()
    rows += [{"name": name, "kind": "cached", "note": PUBLISHED.get(name, "")} for name in cached]
    rows += [{"name": name, "kind": "hub", "note": note} for name, note in PUBLISHED.items() if name not in cached]
    return rows


def _cached() -> list[str]:
    """Return the repositories in the hub's cache that have a codec, without asking the hub."""
    from huggingface_hub import constants  # noqa: PLC0415 -- takes half a second

    found: set[str] = set()
    for mimi in Path(constants.HF_HUB_CACHE).expanduser().glob(f"models--*--*/snapshots/*/{MIMI}"):
        owner, _, name = mimi.parents[2].name.removeprefix("models--").partition("--")
        found.add(f"{owner}/{name}")
    return sorted(found)


@click.command(short_help="Tell what a checkpoint is.")
@click.argument("name", default="tiny")
@click.option("--revision", help="A branch, tag or commit of a hub repository.")
@json_option
@debug_option
def info(name: str, revision: str | None, as_json: bool) -> None:
    """Tell what a checkpoint is, without loading its weights: a built-in name, a folder, or owner/name on the hub.

    \b
    Examples:
      duplex info tiny
      duplex info kyutai/moshika-pytorch-bf16 --json
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.checkpoint import describe  # noqa: PLC0415 -- `duplex --help` need not wait for it

    described = describe(name, revision).as_json()
    if as_json:
        print_json(described)
        return
    _print_table(described)


def _print_table(described: dict[str, Any]) -> None:
    rows = [*_general(described), *_model(described["model"]), *_codec(described["codec"])]
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        click.echo(plain(f"{label:<{width}}  {value}".rstrip()))


def _general(described: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("name", f"{described['name']} ({described['kind']})")]
    if described["revision"]:
        rows.append(("revision", described["revision"]))
    rows.append(("type", described["model_type"]))
    if described["note"]:
        rows.append(("note", " ".join(described["note"].split())))
    return rows


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
