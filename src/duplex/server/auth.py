"""Who may use a server: bearer tokens, and tickets for pages that cannot send one. No sockets, no clocks."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Protocol

import attrs

from duplex.errors import UsageError

__all__ = ["Keys", "TicketOffice", "Tickets", "Tokens", "digest_of", "signed_by_twilio"]

_SCHEME = "bearer "
_CLIENT_KEY = "ek_"
"""What client secrets begin with: OpenAI's clients show nothing else from within a page."""
_NAMED = re.compile(r"(?P<name>[\w.-]{1,64}):(?P<token>.+)")
SHORTEST_TOKEN = 16


class Tokens:
    """Secrets of which one must be shown; without any, everybody may come in.

    Each may have a name in front, ``alice:...``, which logs tell; without one they tell the beginning of its digest.

    :raises UsageError: if one is so short that it could be guessed
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._owners: list[tuple[bytes, str]] = []
        for given in tokens:
            named = _NAMED.fullmatch(given)
            token = named["token"] if named else given
            if len(token) < SHORTEST_TOKEN:
                raise UsageError(
                    f"a token has {len(token)} characters; give at least {SHORTEST_TOKEN}, for example those of: "
                    'python -c "import secrets; print(secrets.token_urlsafe())"'
                )
            digest = digest_of(token)
            self._owners.append((digest, named["name"] if named else digest.hex()[:8]))

    @property
    def wanted(self) -> bool:
        """Whether one must be shown."""
        return bool(self._owners)

    def owner(self, authorization: str | None) -> str | None:
        """Return whose token an ``Authorization`` header shows, "" if none is wanted; ``None`` may not come in."""
        if not self.wanted:
            return ""
        token = _bearer(authorization)
        # All are compared, in constant time: how long it takes tells nothing.
        matches = [owner for digest, owner in self._owners if hmac.compare_digest(digest_of(token), digest)]
        return matches[0] if matches else None


class TicketOffice(Protocol):
    """Gives short-lived secrets, and takes each of them once."""

    def issue(self, owner: str, now: float) -> str:
        """Return a new ticket for the owner of a token, good for a minute from ``now`` on."""
        ...

    def redeem(self, ticket: str, now: float) -> str | None:
        """Return whose ticket this is, ``None`` if it is not good; it is not, from then on."""
        ...


class Tickets:
    """Short-lived secrets for one use, for the address of a websocket, where a token would end up in logs."""

    SECONDS = 60.0
    MAX_TICKETS = 10_000
    """Of one owner: who asks for more loses their own first ones, and nobody else's."""

    def __init__(self) -> None:
        self._tickets: dict[str, dict[bytes, float]] = {}
        """When each of an owner's ends, the first one first."""

    def issue(self, owner: str, now: float) -> str:
        """Return a new ticket for the owner of a token, good for a minute from ``now`` on."""
        own = self._tickets.setdefault(owner, {})
        while own and (len(own) >= self.MAX_TICKETS or next(iter(own.values())) <= now):
            del own[next(iter(own))]
        ticket = secrets.token_urlsafe()
        own[digest_of(ticket)] = now + self.SECONDS
        return ticket

    def redeem(self, ticket: str, now: float) -> str | None:
        """Return whose ticket this is, ``None`` if it is not good; it is not, from then on."""
        digest = digest_of(ticket)
        for owner, own in self._tickets.items():
            if own.pop(digest, 0.0) > now:
                return owner
        return None


@attrs.frozen
class Keys:
    """What callers may show."""

    tokens: Tokens
    tickets: TicketOffice = attrs.field(factory=Tickets)
    twilio: bytes | None = attrs.field(default=None, repr=False)
    """The auth token of the account at Twilio, which signs its requests with it."""

    def issue_secret(self, owner: str, now: float) -> str:
        """Return a new ticket as a client secret, which OpenAI's clients show in place of a token."""
        return f"{_CLIENT_KEY}{self.tickets.issue(owner, now)}"

    def owner(self, authorization: str | None, now: float) -> str | None:
        """Return whose token or client secret an ``Authorization`` header shows; ``None`` may not come in."""
        owner = self.tokens.owner(authorization)
        shown = _bearer(authorization)
        if owner is None and shown.startswith(_CLIENT_KEY):
            return self.tickets.redeem(shown.removeprefix(_CLIENT_KEY), now)
        return owner


def signed_by_twilio(auth_token: bytes, url: str, signature: str) -> bool:
    """Tell whether a websocket's request is signed: HMAC-SHA1 over its address (Twilio, "Validating requests").

    The address is the one that Twilio was given, of which a proxy may have taken off the TLS.
    """
    address = "wss://" + url.partition("://")[2]
    return any(
        hmac.compare_digest(base64.b64encode(hmac.digest(auth_token, each.encode(), "sha1")), signature.encode())
        for each in (address, f"{address}/")
    )


def _bearer(authorization: str | None) -> str:
    shown = authorization or ""
    return shown[len(_SCHEME) :].strip() if shown.lower().startswith(_SCHEME) else ""


def digest_of(secret: str) -> bytes:
    """Return what a secret is known by: 32 bytes that tell nothing of it."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
