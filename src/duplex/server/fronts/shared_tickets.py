"""Tickets that are issued at one front and redeemed at another: files that only this server's user can read.

1. A ticket is a file named by its digest; it holds when the ticket ends, and whose it is. Nobody is told of a ticket
   before its file is whole.
2. Who removes the file has redeemed it, which only one can do.
3. A front removes what it has issued itself: what has ended, and the first ones of who asks for too many. It remembers
   them, so that no request lists the folder; what a front leaves behind is removed when the next one begins.

Clocks are the machine's monotonic one, which its processes share.
"""

import contextlib
import json
import secrets
import time
from collections import deque
from pathlib import Path

from duplex.server.auth import Tickets, digest_of

__all__ = ["SharedTickets"]

AT_ONCE = 2
"""Old tickets that are removed for each new one: they become fewer, and no request waits for thousands."""


class SharedTickets:
    """A :class:`duplex.server.auth.TicketOffice` in a ``folder``, of the fronts of one server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._issued: dict[str, deque[tuple[float, Path]]] = {}
        """When each ticket of an owner's ends that this front has issued, the first one first."""
        folder.mkdir(mode=0o700, exist_ok=True)
        _clear(folder)

    def issue(self, owner: str, now: float) -> str:
        """Return a new ticket for the owner of a token, good for a minute from ``now`` on."""
        own = self._issued.setdefault(owner, deque())
        for _ in range(AT_ONCE):
            if own and (len(own) >= Tickets.MAX_TICKETS or own[0][0] <= now):
                own.popleft()[1].unlink(missing_ok=True)
        ticket, until = secrets.token_urlsafe(), now + Tickets.SECONDS
        path = self._folder / digest_of(ticket).hex()
        path.write_text(json.dumps([until, owner]), encoding="utf-8")
        own.append((until, path))
        return ticket

    def redeem(self, ticket: str, now: float) -> str | None:
        """Return whose ticket this is, ``None`` if it is not good; it is not, from then on."""
        path = self._folder / digest_of(ticket).hex()
        with contextlib.suppress(FileNotFoundError):  # there is none, or another front was faster
            until, owner = json.loads(path.read_text(encoding="utf-8"))
            path.unlink()
            return str(owner) if until > now else None
        return None


def _clear(folder: Path) -> None:
    """Remove what ended a while ago."""
    ended = time.time() - 2 * Tickets.SECONDS
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # its front has removed it
            if path.stat().st_mtime < ended:
                path.unlink()
