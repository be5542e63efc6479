"""``duplex convert``: a checkpoint in another layout, or smaller."""

from pathlib import Path
from typing import Any

import click

from duplex.cli.options import adapter_option, debug_option
from duplex.cli.text import plain, size

__all__ = ["convert"]


@click.command(short_help="Write a checkpoint in another layout, or quantized.")
@click.argument("source", metavar="SRC")
@click.argument("folder", metavar="DST", type=click.Path(path_type=Path))
@click.option(
    "--layout",
    type=click.Choice(["mlx", "torch"]),
    default="mlx",
    show_default=True,
    help="For which of the two the weights are laid out.",
)
@click.option("--quantize", type=click.Choice(["int8", "int4"]), help="Smaller weights; bfloat16 if left out.")
@click.option("--revision", help="A branch, tag or commit of a hub repository.")
@adapter_option
@debug_option
def convert(
    source: str, folder: Path, layout: Any, quantize: str | None, revision: str | None, adapter: str | None
) -> None:
    """Write a checkpoint anew, with all of its files, into a folder. SRC is a name, a folder, or owner/name on the hub.

    It needs MLX, which also runs on Linux: the extra "mlx".

    \b
    Examples:
      duplex convert kyutai/moshika-pytorch-bf16 moshika-q4 --quantize int4
      duplex convert moshika-mlx moshika-torch --layout torch
      duplex convert kyutai/moshiko-pytorch-bf16 mine-q8 --adapter run/consolidated --quantize int8
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.backends.conversion import convert as write  # noqa: PLC0415 -- `duplex --help` need not wait for it

    weights = write(source, folder, layout=layout, quantize=quantize, revision=revision, adapter=adapter)
    click.echo(plain(f"{source} -> {folder}"))
    click.echo(f"  {weights.name}, {size(weights.stat().st_size)}")
