"""Who may use a server: bearer tokens, and tickets for pages that cannot send one. No sockets, no clocks."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable

from duplex.errors import UsageError

__all__ = ["Tickets", "Tokens"]

_SCHEME = "bearer "
SHORTEST_TOKEN = 16


class Tokens:
    """Secrets of which one must be shown; without any, everybody may come in.

    :raises UsageError: if one is so short that it could be guessed
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests: list[bytes] = []
        for token in tokens:
            if len(token) < SHORTEST_TOKEN:
                raise UsageError(
                    f"a token has {len(token)} characters; give at least {SHORTEST_TOKEN}, for example those of: "
                    'python -c "import secrets; print(secrets.token_urlsafe())"'
                )
            self._digests.append(_digest(token))

    @property
    def wanted(self) -> bool:
        """Whether one must be shown."""
        return bool(self._digests)

    def allow(self, authorization: str | None) -> bool:
        """Tell whether the value of an ``Authorization`` header lets its sender in."""
        if not self.wanted:
            return True
        shown = authorization or ""
        token = shown[len(_SCHEME) :].strip() if shown.lower().startswith(_SCHEME) else ""
        # All are compared, in constant time: how long it takes tells nothing.
        matches = [hmac.compare_digest(_digest(token), digest) for digest in self._digests]
        return any(matches)


class Tickets:
    """Short-lived secrets for one use, for the address of a websocket, where a token would end up in logs."""

    SECONDS = 60.0
    MOST = 10_000

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}
        """When each ends, the first one first."""

    def issue(self, now: float) -> str:
        """Return a new ticket, good for a minute from ``now`` on."""
        while self._until and (len(self._until) >= self.MOST or next(iter(self._until.values())) <= now):
            del self._until[next(iter(self._until))]
        ticket = secrets.token_urlsafe()
        self._until[_digest(ticket)] = now + self.SECONDS
        return ticket

    def redeem(self, ticket: str, now: float) -> bool:
        """Tell whether a ticket is good; it is not, from then on."""
        return self._until.pop(_digest(ticket), 0.0) > now


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
