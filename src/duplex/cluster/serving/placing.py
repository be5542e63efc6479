"""Which replicas a caller is sent to: decisions on what replicas have told. No sockets, no clocks.

1. A replica counts as there while what it has told last is no older than three seconds.
2. Callers who were sent to a replica a moment ago are counted there, since it cannot have told of them yet.
3. The one with the most places left comes first, then, at most, two others: those that were told as full are left out.
   If all were, nobody is sent anywhere.
4. Who comes back to a call is sent to the replica that holds it while that is there, be it full or about to go.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import attrs

from duplex.events import JsonValue

__all__ = ["Placement", "Report", "Standing"]

TRIES = 3
"""Replicas that one caller is sent to at most."""
STALE_SECONDS = 3.0
SETTLED_SECONDS = 1.0
"""In which a caller has come where they were sent to, and the replica has told."""


@attrs.frozen(kw_only=True)
class Report:
    """What a replica tells of itself, about twice a second."""

    name: str
    url: str
    """Of its server: ``http://10.0.0.5:41234``."""
    places: int
    talking: int
    waiting: int
    state: str
    """``ready``, or why it is not: ``full`` (the queue, too), ``draining``, ``stalled``, ``closed``."""
    about: Mapping[str, JsonValue] = attrs.field(factory=dict[str, JsonValue])
    """What it tells a page of its models."""

    @property
    def free(self) -> int:
        """Places that are left; below 0, who waits."""
        return self.places - self.talking - self.waiting


@attrs.frozen(kw_only=True)
class Standing:
    """What a replica is told in return."""

    others: tuple[str, ...] = ()
    """Addresses of replicas with places, to which its calls can move, the emptiest first."""
    grace: float | None = None
    """Seconds after which its last call ends, if all are to stop."""


@attrs.define
class _Known:
    report: Report
    told_at: float
    sent: deque[float] = attrs.field(factory=deque[float])
    """When callers were sent there, who may not have been told of."""

    def note(self, report: Report, told_at: float) -> None:
        self.report, self.told_at = report, told_at
        while self.sent and self.sent[0] <= told_at - SETTLED_SECONDS:
            self.sent.popleft()

    @property
    def free(self) -> int:
        return self.report.free - len(self.sent)


class Placement:
    """The replicas of a cluster, as far as they are known; times are seconds of any one clock."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def note(self, reports: Iterable[tuple[float, Report]], now: float) -> None:
        """Take what replicas have told, each so many seconds ago; those that are not among them are gone."""
        known, self._known = self._known, {}
        for age, report in reports:
            entry = known.get(report.name) or _Known(report, now - age)
            entry.note(report, now - age)
            self._known[report.name] = entry

    def there(self, now: float) -> Sequence[Report]:
        """Return what the replicas that are there have told, the emptiest first."""
        alive = [each for each in self._known.values() if each.told_at > now - STALE_SECONDS]
        return [each.report for each in sorted(alive, key=lambda each: -each.free)]

    def choose(self, now: float, keeper: str = "") -> Sequence[Report]:
        """Return the replicas that a caller is to ask at, in this order.

        :param keeper: the address of the one that holds the caller's call, if there is a call
        """
        there = self.there(now)
        keepers = [each for each in there if each.url == keeper]
        ready = [each for each in there if each.state == "ready" and each.url != keeper]
        chosen = [*keepers, *ready][:TRIES]
        if chosen:
            self._known[chosen[0].name].sent.append(now)
        return chosen
