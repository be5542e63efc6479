"""``duplex recordings``: what a server has recorded, and its deletion."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from duplex.cli.options import debug_option
from duplex.cli.text import plain
from duplex.errors import UsageError

if TYPE_CHECKING:
    from duplex.server.recordings import Recording

__all__ = ["recordings"]

FOLDER = click.argument("folder", type=click.Path(path_type=Path))


@click.group(short_help="List and delete what `duplex serve --record` has recorded.")
def recordings() -> None:
    """List and delete what `duplex serve --record FOLDER` has recorded.

    \b
    Examples:
      duplex recordings list calls
      duplex recordings delete calls --session e016c25084044586
      duplex recordings delete calls --owner alice --older-than 30
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are


@recordings.command("list", short_help="List recordings, the oldest first.")
@FOLDER
@debug_option
def list_recordings(folder: Path) -> None:
    """List recordings, the oldest first: name, session, owner, and what each takes of the disk.

    \b
    Example:
      duplex recordings list calls
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.server.recordings import recordings_in  # noqa: PLC0415 -- `duplex --help` need not wait for it

    for each in recordings_in(folder):
        megabytes = f"{each.size / 1e6:.1f} MB"
        click.echo(plain(f"{each.name}  {each.session or '-':16}  {each.owner or '-':16}  {megabytes:>12}"))


@recordings.command("delete", short_help="Delete recordings: of a call, of an owner, or older ones.")
@FOLDER
@click.option("--session", metavar="ID", help="The call's.")
@click.option("--owner", metavar="NAME", help="All whose caller showed the token of this name.")
@click.option("--older-than", type=click.FloatRange(0), metavar="DAYS", help="Only those last written to before.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be deleted.")
@debug_option
def delete_recordings(
    folder: Path, session: str | None, owner: str | None, older_than: float | None, *, dry_run: bool
) -> None:
    """Delete the recordings that fit all that is given, and write a line for each into FOLDER/deletions.jsonl.

    \b
    Examples:
      duplex recordings delete calls --session e016c25084044586
      duplex recordings delete calls --owner alice --older-than 30
    """  # noqa: D301 -- \b is click's mark for lines that stay as they are
    from duplex.server.recordings import Deleted, delete_all, recordings_in  # noqa: PLC0415

    if session is None and owner is None and older_than is None:
        raise UsageError("all recordings would be deleted; say which with --session, --owner or --older-than")
    now = time.time()
    chosen = [
        each
        for each in recordings_in(folder)
        if session in (None, each.session)
        and owner in (None, each.owner)
        and (older_than is None or now - each.written > older_than * 86_400)
    ]
    _check(chosen, now, session)
    reason = Deleted(why="operator", by="duplex recordings")
    wanted = [(each, reason) for each in chosen]
    for each, _ in wanted if dry_run else delete_all(wanted):
        click.echo(plain(f"{'would delete' if dry_run else 'deleted'} {each.name}"))


def _check(chosen: "Sequence[Recording]", now: float, session: str | None) -> None:
    """Refuse what cannot be deleted now, before anything is.

    :raises UsageError: if there is no recording of the session, or a call goes on
    """
    if session is not None and not chosen:
        raise UsageError(f"no recording is of session {session}; see them with `duplex recordings list`")
    going_on = [each.name for each in chosen if each.being_written(now)]
    if going_on:
        raise UsageError(f"{', '.join(going_on)}: the call goes on; end it, and delete its recording then")
