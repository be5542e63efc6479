"""Tickets for a place at one replica, which the ingress signs and the replica takes. No sockets.

1. A ticket says for which replica it is, whose token its caller has shown, until when it is good, and a number of its
   own. All of it is signed (HMAC-SHA256) with a secret that the replicas of one cluster and its ingress share.
2. It is good once, at that replica, which remembers numbers for as long as their tickets are good. A replica that was
   started anew has another name, so that what was taken before is not good again.
3. The time is that of the wall clock, since two machines look at it: clocks that differ by more than a minute are to be
   set.
"""

import base64
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

from duplex.parsing import parse_json
from duplex.server.auth import Tickets

__all__ = ["PlaceTickets", "sign_ticket"]

_PREFIX = "place."
_LONGEST = 1024
"""Characters; with the longest name of a token's owner there are 300."""


def sign_ticket(secret: bytes, replica: str, owner: str, now: float) -> str:
    """Return a ticket for a caller, good once at a replica, for a minute from ``now`` on (seconds since 1970)."""
    content = [replica, owner, now + Tickets.SECONDS, secrets.token_urlsafe(16)]
    said = _encoded(json.dumps(content).encode())
    return f"{_PREFIX}{said}.{_signature(secret, said)}"


class PlaceTickets(Tickets):
    """A replica's tickets: those that it gives out itself, and those for a place at it.

    ``clock`` tells seconds since 1970.
    """

    def __init__(self, secret: bytes, replica: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._secret = secret
        self._replica = replica
        self._clock = clock
        self._taken: OrderedDict[str, float] = OrderedDict()
        """Numbers of tickets that were used, and when these end."""

    def redeem(self, ticket: str, now: float) -> str | None:
        """Return whose ticket this is, ``None`` if it is not good; it is not, from then on."""
        if not ticket.startswith(_PREFIX):
            return super().redeem(ticket, now)
        content = self._read(ticket)
        if content is None:
            return None
        replica, owner, until, number = content
        if replica != self._replica or not self._clock() < until <= self._clock() + 2 * self.SECONDS:
            return None
        return owner if self._take(number, until) else None

    def _read(self, ticket: str) -> tuple[str, str, float, str] | None:
        """Return what a ticket says, if the secret has signed it."""
        said, _, signature = ticket[len(_PREFIX) : _LONGEST].partition(".")
        if not hmac.compare_digest(_signature(self._secret, said).encode(), signature.encode(errors="surrogatepass")):
            return None
        replica, owner, until, number = cast("list[Any]", parse_json(base64.urlsafe_b64decode(said + "==")))
        return replica, owner, until, number

    def _take(self, number: str, until: float) -> bool:
        """Note that a ticket is used; return whether it was not, and can be noted."""
        while self._taken and next(iter(self._taken.values())) <= self._clock():
            self._taken.popitem(last=False)
        if number in self._taken or len(self._taken) >= self.MAX_TICKETS:
            return False
        self._taken[number] = until
        return True


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _signature(secret: bytes, said: str) -> str:
    return _encoded(hmac.digest(secret, said.encode(errors="surrogatepass"), "sha256"))
