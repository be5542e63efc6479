"""Text for people and for machines."""

import json
import traceback
from pathlib import Path
from typing import Any

import click

from duplex.errors import DuplexError
from duplex.parsing import plain

__all__ = ["one_line", "plain", "print_error", "print_json", "report_error", "size", "tell_passed_over", "truncate"]

MAX_WORDS_CHARACTERS = 400
UNIT = 1000
NAMED = 3
"""How many of the files that were passed over are named."""


def one_line(message: object) -> str:
    """Return a message on one line."""
    return plain(" ".join(str(message).split()))


def truncate(text: str, longest: int = MAX_WORDS_CHARACTERS) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= longest else f"{text[:longest].rstrip()} ..."


def print_error(message: str) -> None:
    """Print one line on standard error."""
    click.echo(f"duplex: error: {message}", err=True)


def report_error(error: Exception, *, debug: bool) -> None:
    """Print an error as one line on standard error; with ``debug`` where it comes from, too.

    One that nobody foresaw says how to learn more.
    """
    if debug:
        traceback.print_exception(error)
    message = one_line(error)
    if not isinstance(error, DuplexError):
        cause = f"{type(error).__name__}: {truncate(message)}" if message else type(error).__name__
        message = f"unexpected {cause}; run again with --debug for details"
    print_error(message)


def tell_passed_over(paths: list[Path]) -> None:
    """Say which files were found and not taken."""
    if paths:
        names = ", ".join(str(path) for path in sorted(paths)[:NAMED])
        more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
        note = f"{names}{more}: passed over, not recordings by their suffix; give them by name to have them heard"
        click.echo(f"duplex: note: {plain(one_line(note))}", err=True)


def print_json(value: Any) -> None:
    """Print a value for machines."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def size(count: float, unit: str = "B") -> str:
    """Return a number as people say it.

    >>> size(385_000_000), size(950), size(7_700_000_000, "")
    ('385 MB', '950 B', '7.7 G')
    """
    prefixes = ["", "k", "M", "G", "T"]
    while count >= UNIT and len(prefixes) > 1:
        count /= UNIT
        del prefixes[0]
    number = f"{count:.0f}" if count >= 10 or not prefixes[0] else f"{count:.1f}"  # noqa: PLR2004 -- two digits do
    return f"{number} {prefixes[0]}{unit}".strip()
