"""Who talks, who waits, and who is sent away: a state machine without clocks or sockets.

1. A caller talks at once if a place is free and nobody waits for one.
2. Else the caller waits; places are given in the order of arrival, the moment one is free.
3. Sent away are callers who would be one too many: in the queue, from one address, or while the server drains.
4. A network of IPv6 (/64) is one address: a single machine has all of its 2^64.
"""

import ipaddress
from collections import Counter
from enum import StrEnum
from typing import Protocol

from duplex.errors import UsageError

__all__ = ["Admission", "Door", "Refusal"]

_EMBEDDED = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))
"""Where IPv4 addresses stand in IPv6: as a socket for both tells them, and behind NAT64."""


class Refusal(StrEnum):
    """Why a caller is sent away."""

    FULL = "full"
    """Every place is taken, and so is the queue."""
    TOO_MANY = "too_many"
    """The address has as many calls as one may have."""
    DRAINING = "draining"
    """The server is about to stop."""
    WAITED = "waited"
    """No place became free in time. Told by whoever has a clock."""


class Door(Protocol):
    """The admission to a model, wherever its places are counted."""

    draining: bool
    """Whether nobody is let in any more."""

    @property
    def talking(self) -> int:
        """How many callers have a place."""
        ...

    @property
    def waiting(self) -> int:
        """How many callers wait for one."""
        ...

    @property
    def full(self) -> bool:
        """Whether the next caller would be sent away."""
        ...

    async def enter(self, address: str) -> int | Refusal:
        """Take in a caller, or say why not."""
        ...

    def position(self, caller: int) -> int:
        """Return a caller's place in the queue, from 1; 0 is one who may talk."""
        ...

    def leave(self, caller: int) -> None:
        """Let a caller go, from a place or from the queue."""
        ...


class Admission:
    """The places of a model and the queue in front of them; callers are numbers.

    ``calls_of`` counts the calls of each address; the models of one server share it.

    :raises UsageError: if a number is out of range
    """

    def __init__(self, places: int, queue: int, per_address: int, calls_of: Counter[str] | None = None) -> None:
        if places < 1 or queue < 0 or per_address < 0:
            raise UsageError("a server needs 1 place or more; its queue and the calls of an address cannot be negative")
        self._places = places
        self._queue = queue
        self._per_address = per_address
        self._calls_of: Counter[str] = Counter() if calls_of is None else calls_of
        self._addresses: dict[int, str] = {}
        self._talking: set[int] = set()
        self._waiting: list[int] = []
        self._calls = 0
        self.draining: bool = False
        """Whether nobody is let in any more."""

    @property
    def talking(self) -> int:
        """How many callers have a place."""
        return len(self._talking)

    @property
    def waiting(self) -> int:
        """How many callers wait for one."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the next caller would be sent away."""
        return self.draining or (self.talking >= self._places and self.waiting >= self._queue)

    async def enter(self, address: str) -> int | Refusal:
        """Take in a caller, at once."""
        return self.arrive(address)

    def arrive(self, address: str) -> int | Refusal:
        """Take in a caller, or say why not. ``per_address`` 0 sets no limit."""
        if self.draining:
            return Refusal.DRAINING
        address = _as_one(address)
        if self._per_address and self._calls_of[address] >= self._per_address:
            return Refusal.TOO_MANY
        if self.full:
            return Refusal.FULL
        self._calls += 1
        self._addresses[self._calls] = address
        self._calls_of[address] += 1
        self._waiting.append(self._calls)
        self._give_places()
        return self._calls

    def position(self, caller: int) -> int:
        """Return a caller's place in the queue, from 1; 0 is one who may talk."""
        return 0 if caller in self._talking else self._waiting.index(caller) + 1

    def leave(self, caller: int) -> None:
        """Let a caller go, from a place or from the queue; the next one gets the place."""
        address = self._addresses.pop(caller)
        self._calls_of[address] -= 1
        if not self._calls_of[address]:  # or it would be remembered for ever
            del self._calls_of[address]
        self._talking.discard(caller)
        if caller in self._waiting:
            self._waiting.remove(caller)
        self._give_places()

    def _give_places(self) -> None:
        while self._waiting and len(self._talking) < self._places:
            self._talking.add(self._waiting.pop(0))


def _as_one(address: str) -> str:
    """Return what an address counts as; what is none (a local socket's) counts as itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if any(parsed in network for network in _EMBEDDED):
        return str(ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF))
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
