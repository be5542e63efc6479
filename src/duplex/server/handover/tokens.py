"""Tokens to go on with a call whose line has broken. No sockets, no clocks.

1. A token is a secret of the caller's; only its digest is kept, made with whose call it is: to others it is unknown.
2. It is good once. Who shows it gets the next one, of the next generation; shown again it is refused as used.
3. A call that is over takes its token with it.
"""

import hashlib
import secrets
from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["ResumeTokens", "key_of"]

Held = TypeVar("Held")
_LONGEST = 128
"""Characters; ours have 43."""


def key_of(token: str, owner: str) -> str:
    """Return what a token of an owner's call is known by, hexadecimal: 64 characters that tell nothing of it."""
    secret = f"{owner}\0{token[:_LONGEST]}".encode(errors="surrogatepass")
    return hashlib.sha256(secret).hexdigest()


class ResumeTokens(Generic[Held]):
    """The tokens of calls that go on, or wait for their callers."""

    MAX_USED = 10_000
    """Tokens that are remembered as used; of older ones it is only known that they are not good."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._used: OrderedDict[str, None] = OrderedDict()

    def issue(self, owner: str, held: Held) -> tuple[str, str]:
        """Return a new token for what is held, and its key."""
        token = secrets.token_urlsafe()
        key = key_of(token, owner)
        self._held[key] = held
        return token, key

    def knows(self, key: str) -> bool:
        """Whether a token is good, or is known to have been used."""
        return key in self._held or key in self._used

    def redeem(self, key: str) -> Held | None:
        """Return what a token is for, ``None`` if it is not good; it is not, from then on."""
        held = self._held.pop(key, None)
        if held is not None:
            self.note_used(key)
        return held

    def note_used(self, key: str) -> None:
        """Remember that a token was used, be it elsewhere."""
        self._used[key] = None
        while len(self._used) > self.MAX_USED:
            self._used.popitem(last=False)

    def used(self, key: str) -> bool:
        """Whether a token is known to have been used."""
        return key in self._used

    def revoke(self, key: str) -> None:
        """Let a token be good no longer: its call is over."""
        self._held.pop(key, None)
