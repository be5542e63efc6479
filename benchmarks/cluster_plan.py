"""What is simulated of a fleet, and what comes of it; `cluster_fleet.py` has the rules."""

import math
import random
from collections.abc import Iterator, Sequence

import attrs
import numpy as np

__all__ = ["Outcome", "Plan", "arrivals"]


@attrs.frozen(kw_only=True)
class Plan:
    """What is simulated; times in seconds."""

    calls: float
    """Offered load: calls that would go on at a time if all were let in."""
    talk: float = 180.0
    """Mean length of a call."""
    shape: str = "exponential"
    """Of lengths: ``exponential``, ``lognormal`` (a deviation of 1.5 times the mean) or ``fixed``."""
    surge: float = 1.0
    """By what the load is multiplied in the middle third."""
    seconds: float = 3600.0
    warm_up: float = 0.0
    """Of which nothing is counted."""
    filled: bool = False
    """Whether the offered load is there from the beginning."""
    places: int = 96
    queue: int = 0
    queue_timeout: float = 120.0
    placement: str = "placer"
    tries: int = 3
    try_seconds: float = 0.01
    stale: float = 0.5
    replicas: int = 0
    """That are there at the beginning; 0: as many as the load needs at the target."""
    target: float = 0.0
    """Share of places taken that the autoscaler aims at; 0 does not scale."""
    start: float = 60.0
    """For a new replica to load its model."""
    decide: float = 15.0
    """Between decisions to scale."""
    down_after: float = 600.0
    crashes: float = 0.0
    """A replica and hour."""
    rolls: float = 0.0
    """Times an hour that every replica is replaced, for a new version."""
    moving: bool = True
    move_seconds: float = 0.13
    gap: float = 0.24
    """What a caller hears nothing, when a call is moved as planned."""
    rebuild: float = 2.0
    """From a crash to the first frame elsewhere, a place being there."""
    drain: float = 1800.0
    grace: float = 30.0
    seed: int = 0


@attrs.define
class Outcome:
    """What came of it, after the warm-up."""

    arrived: int = 0
    placed: int = 0
    waited: int = 0
    refused: int = 0
    tired: int = 0
    moved: int = 0
    rebuilt: int = 0
    lost: int = 0
    """Calls that had begun and were ended by the fleet."""
    events: int = 0
    crashed: int = 0
    place_seconds: list[float] = attrs.field(factory=list[float])
    gaps: list[float] = attrs.field(factory=list[float])
    talking_seconds: float = 0.0
    place_capacity: float = 0.0
    """Places, times the seconds that they were there."""
    peak: int = 0
    """Replicas that were paid for at a time."""

    @property
    def occupancy(self) -> float:
        """Share of all places that was taken, over time."""
        return self.talking_seconds / self.place_capacity

    @property
    def refused_share(self) -> float:
        """Of those who came."""
        return (self.refused + self.tired) / max(1, self.arrived)

    def quantiles(self, values: Sequence[float]) -> tuple[float, float, float]:
        """Return median, 99 % and the largest."""
        return tuple(float(each) for each in np.quantile(values, (0.5, 0.99, 1.0))) if len(values) else (0.0, 0.0, 0.0)


def arrivals(plan: Plan, draw: random.Random) -> Iterator[tuple[float, float, int]]:
    """Yield when callers come, for how long they talk, and -1: none of them has a replica in mind."""
    now = 0.0
    deviation, there = math.sqrt(math.log(1 + 1.5**2)), round(plan.calls) if plan.filled else 0
    while True:
        middle = plan.seconds / 3 <= now < 2 * plan.seconds / 3
        if there > 0:  # of what is left of its length, which for exponential ones is as long as a whole one
            there -= 1
        else:
            now += draw.expovariate(plan.calls / plan.talk * (plan.surge if middle else 1.0))
        if plan.shape == "exponential":
            length = draw.expovariate(1 / plan.talk)
        elif plan.shape == "lognormal":
            length = draw.lognormvariate(math.log(plan.talk) - deviation**2 / 2, deviation)
        else:
            length = plan.talk
        yield now, length, -1
