"""Tickets that are issued at one front and redeemed at another: files that only this server's user can read.

A ticket is a file named by its digest, in a folder for its owner; it holds when the ticket ends, and whose it is. Who
removes the file has redeemed it, which only one can do. Who asks for too many loses their own first ones. Clocks are
the machine's monotonic one, which its processes share.
"""

import contextlib
import json
import secrets
import time
from pathlib import Path

from duplex.server.auth import Tickets, digest_of

__all__ = ["SharedTickets"]


class SharedTickets:
    """A :class:`duplex.server.auth.TicketOffice` in a ``folder``, of the fronts of one server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def issue(self, owner: str, now: float) -> str:
        """Return a new ticket for the owner of a token, good for a minute from ``now`` on."""
        ticket = secrets.token_urlsafe()
        own = self._folder / digest_of(owner).hex()
        own.mkdir(mode=0o700, exist_ok=True)
        _make_room(own)
        path = own / digest_of(ticket).hex()
        part = path.with_suffix(".part")
        part.write_text(json.dumps([now + Tickets.SECONDS, owner]), encoding="utf-8")
        part.replace(path)
        return ticket

    def redeem(self, ticket: str, now: float) -> str | None:
        """Return whose ticket this is, ``None`` if it is not good; it is not, from then on."""
        for path in self._folder.glob(f"*/{digest_of(ticket).hex()}"):
            with contextlib.suppress(FileNotFoundError):  # another front was faster
                until, owner = json.loads(path.read_text(encoding="utf-8"))
                path.unlink()
                return str(owner) if until > now else None
        return None


def _make_room(folder: Path) -> None:
    """Remove what was made a while ago, or the oldest if there are too many."""
    made: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # redeemed a moment ago
            made.append((path.stat().st_mtime, path))
    made.sort(reverse=True)
    ended = time.time() - 2 * Tickets.SECONDS
    for number, (when, path) in enumerate(made):
        if number >= Tickets.MAX_TICKETS - 1 or when < ended:
            path.unlink(missing_ok=True)
