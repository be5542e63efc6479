"""What can be chosen about a server."""

import ipaddress
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
from attrs.converters import optional

from duplex.errors import UsageError
from duplex.server.origins import LOOPBACK_NAMES, host_names, hosts_of, origins
from duplex.server.wires.table import NAMES

__all__ = ["Settings", "is_loopback", "not_negative"]

_UNENDING = 0.0


def not_negative(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    """Check a number.

    :raises UsageError: if it is negative, infinite or NaN
    """
    if not 0 <= value < math.inf:
        raise UsageError(f"{attribute.name} is {value}; give a number that is not negative")


def _wires(given: Iterable[str]) -> tuple[str, ...]:
    """Return names of wires as they were given.

    :raises UsageError: if there is none of a name, or no name
    """
    names = tuple(given)
    if not names or not all(name in NAMES for name in names):
        raise UsageError(f"the wires are {', '.join(names) or 'none'}; choose one or more of {', '.join(NAMES)}")
    return names


@attrs.frozen(kw_only=True)
class Settings:
    """A server's rules for its callers. Seconds are of the wall clock; 0 sets no limit, where it says so.

    :raises UsageError: if a value is out of range
    """

    queue: int = attrs.field(default=16, validator=not_negative)
    """Callers who may wait for a place."""
    queue_timeout: float = attrs.field(default=120.0, validator=not_negative)
    """Seconds that one waits before being sent away."""
    per_address: int = attrs.field(default=0, validator=not_negative)
    """Calls that one address may have at a time; 0 sets no limit."""
    session_limit: float = attrs.field(default=_UNENDING, validator=not_negative)
    """Seconds after which a conversation is ended; 0 sets no limit."""
    idle_timeout: float = attrs.field(default=30.0, validator=not_negative)
    """Seconds without a sign of life, such as audio, after which a caller counts as gone; 0 sets no limit."""
    resume_grace: float = attrs.field(default=30.0, validator=not_negative)
    """Seconds that a conversation waits, standing still, for a caller whose line broke; 0 lets nobody come back."""
    state_store: str | Path | None = attrs.field(default=None, repr=False)
    """Folder, or address of a Redis (``redis://:password@host:6379/0``), in which conversations are kept, so that
    another server can go on with them."""
    move_to: tuple[str, ...] = ()
    """Addresses of such servers, to which calls move when this one stops."""
    tokens: tuple[str, ...] = attrs.field(default=(), repr=False)
    """Bearer tokens of which a caller must show one, each with a name in front or not (``alice:...``); without any,
    everybody may call."""
    twilio_auth_token: str = attrs.field(default="", repr=False)
    """Of the account at Twilio; with it, calls by ``/twilio`` must be signed, and need no other token."""
    origins: tuple[str, ...] = attrs.field(default=(), converter=origins)
    """Origins of foreign pages that may call, such as ``https://example.com``; ``*`` allows all."""
    hosts: tuple[str, ...] = attrs.field(default=(), converter=host_names)
    """Names that clients may call this server by, beside this machine's own and those of ``origins``; ``*.example.org``
    stands for all names below one, ``*`` for any. If none is given, any will do where a token is wanted, and no other
    where none is: a page elsewhere could point a name of its own here."""
    wires: tuple[str, ...] = attrs.field(default=NAMES, converter=_wires)
    """The protocols that callers may speak, by name."""
    record: Path | None = attrs.field(default=None, converter=optional(Path))
    """Folder for recordings of all conversations."""
    record_days: float = attrs.field(default=_UNENDING, validator=not_negative)
    """Days after which a recording is deleted; 0 sets no limit."""
    record_gigabytes: float = attrs.field(default=_UNENDING, validator=not_negative)
    """That recordings may take; the oldest are deleted first. 0 sets no limit."""
    record_with_consent: bool = False
    """Whether only those are recorded who have agreed, or have heard the ``notice``."""
    notice: Path | None = attrs.field(default=None, converter=optional(Path))
    """A recording that callers by telephone hear before a recorded conversation."""
    voices: Path | None = attrs.field(default=None, converter=optional(Path))
    """Folder of voices that callers may name, beside those of a checkpoint; a caller never names a file elsewhere."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names that clients may call this server by."""
        if self.tokens and not self.hosts:
            return ("*",)
        return *LOOPBACK_NAMES, *self.hosts, *hosts_of(self.origins)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a server on this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
