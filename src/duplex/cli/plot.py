"""``duplex plot``: a picture of a dialogue."""

from pathlib import Path

import click

from duplex.cli.options import debug_option
from duplex.cli.text import plain

__all__ = ["plot"]


@click.command(short_help="Draw a dialogue's two voices and the agent's words.")
@click.argument("results", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="F.png|svg|pdf", help="Default: FOLDER/lanes.png.")
@click.option("--start", type=float, default=0.0, metavar="SECONDS", help="Draw from here on.")
@click.option("--end", type=float, metavar="SECONDS", help="Draw up to here. Default: all of it.")
@debug_option
def plot(results: Path, out: Path | None, start: float, end: float | None) -> None:
    """Draw a dialogue: who speaks when, and the agent's words.

    FOLDER is one dialogue's, as `duplex process` makes it.

    \b
    Example:
      duplex process question.wav
      duplex plot out/question
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.process.timeline import draw_timeline  # noqa: PLC0415 -- `duplex --help` need not wait for it

    picture = out or results / "lanes.png"
    draw_timeline(results, picture, start=start, end=end)
    click.echo(plain(str(picture)))
