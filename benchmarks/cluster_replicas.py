"""The replicas of a simulated fleet, and which of them a caller is sent to; `cluster_fleet.py` has the rules."""

import math
import random
from collections import deque

import attrs

from cluster_plan import Plan

__all__ = ["GOING", "GONE", "ROLL_ROUNDS", "STARTING", "UP", "Replica", "Replicas"]

STARTING, UP, GOING, GONE = range(4)
ROLL_ROUNDS = 20
"""Replicas that are rolled at the same time: a twentieth of them."""


@attrs.define
class Replica:
    """One of them, and whose calls it has, by their numbers."""

    state: int = UP
    talking: int = 0
    calls: set[int] = attrs.field(factory=set)
    waiting: deque[int] = attrs.field(factory=deque)
    seen: int = 0
    """Who is there, as far as whoever places callers knows."""

    def take(self, call: int) -> None:
        """Have one more call."""
        self.talking += 1
        self.seen += 1
        self.calls.add(call)

    def give_up(self, call: int) -> None:
        """Have one call less."""
        self.talking -= 1
        self.seen -= 1
        self.calls.discard(call)


class Replicas:
    """All that there ever were, by their numbers; ``paid`` of them are not gone, and ``up`` are those that serve."""

    def __init__(self, plan: Plan, draw: random.Random) -> None:
        wanted = plan.replicas or max(1, math.ceil(plan.calls / (plan.places * (plan.target or 0.85))))
        self._plan, self._draw = plan, draw
        self._every = [Replica() for _ in range(wanted)]
        self.up = list(range(wanted))
        self.paid = wanted
        self._candidates = list(self.up)

    def __getitem__(self, index: int) -> Replica:
        """Return one of them."""
        return self._every[index]

    @property
    def to_come(self) -> int:
        """How many serve, or will."""
        return sum(each.state in (STARTING, UP) for each in self._every)

    def has_place(self, index: int) -> bool:
        """Tell whether a replica would let one more caller in."""
        return self._every[index].state == UP and self._every[index].talking < self._plan.places

    def choose(self, tried: list[int]) -> int:
        """Return which replica a caller asks next, -1 if there is none."""
        candidates, draw = self._candidates, self._draw
        if not candidates:
            return -1
        one = candidates[int(draw.random() * len(candidates))]
        if self._plan.placement == "placer":
            other = candidates[int(draw.random() * len(candidates))]
            if self._every[other].seen < self._every[one].seen or one in tried:
                one = other
        if one in tried and len(candidates) > len(tried):
            one = draw.choice([each for each in candidates if each not in tried] or [one])
        return one

    def look(self) -> None:
        """Have whoever places callers know what there is now."""
        plan = self._plan
        for index in self.up:
            self._every[index].seen = self._every[index].talking
        if plan.placement == "random":
            self._candidates = self.up
        else:
            room = plan.places + plan.queue
            self._candidates = [i for i in self.up if self._every[i].talking + len(self._every[i].waiting) < room]

    def some(self, most: int) -> list[int]:
        """Return replicas that serve, by chance: a twentieth, and at most so many."""
        return self._draw.sample(self.up, min(most, max(1, len(self.up) // ROLL_ROUNDS)))

    def start(self) -> int:
        """Begin to load one more, and return its number."""
        self._every.append(Replica(STARTING))
        self.paid += 1
        return len(self._every) - 1

    def ready(self, index: int) -> None:
        """Have a replica serve that has loaded its model."""
        self._every[index].state = UP
        self.up.append(index)

    def take_out(self, index: int, state: int) -> Replica:
        """Have a replica take nobody any more, and return it."""
        replica = self._every[index]
        replica.state = state
        self.up = [each for each in self.up if each != index]
        return replica

    def go(self, index: int) -> None:
        """Pay for a replica no longer."""
        self._every[index].state = GONE
        self.paid -= 1
