"""A fleet of replicas as discrete events: callers who come, are placed, wait, talk, move and are lost. No clocks.

1. A caller tries at most ``tries`` replicas, each try taking ``try_seconds``; the replica's own admission decides.
2. ``random``: any replica. ``gateway``: any that was ready (not full) when last asked, ``stale`` seconds ago at most.
   ``placer``: of two such by chance, the emptier one, by its last report and who has been sent there since.
3. A full replica lets ``queue`` callers wait, in order, for ``queue_timeout`` seconds at most.
4. A replica that goes (scaled down, rolled) takes nobody; its calls move one after another, ``move_seconds`` each, or,
   if calls cannot move, stay for ``drain`` seconds. One that crashes leaves its calls without a place.
5. A call without a place asks again every second, and is lost after ``grace`` seconds.
"""

import heapq
import math
import random
from collections.abc import Callable, Sequence

from cluster_plan import Outcome, Plan, arrivals
from cluster_replicas import GOING, GONE, ROLL_ROUNDS, UP, Replica, Replicas

__all__ = ["Fleet"]

ARRIVE, END, TIRED, READY, GO, LOOK, DECIDE, CRASH, ROLL, SEEK, KILL = range(11)


class Fleet:
    """One run. ``trace`` gives (arrival, length, replica asked first) in place of chance, in the order of arrival."""

    def __init__(self, plan: Plan, trace: Sequence[tuple[float, float, int]] | None = None) -> None:
        self.plan, self.outcome = plan, Outcome()
        self._random = random.Random(plan.seed)  # noqa: S311 -- a simulation
        self._replicas = Replicas(plan, self._random)
        self._events: list[tuple[float, int, int]] = []
        self._home: dict[int, int] = {}
        self._queued: dict[int, tuple[int, float]] = {}
        self._lengths: dict[int, float] = {}
        self._lost_since: dict[int, float] = {}
        self._talking = self._low_since = 0
        self._now, self._number = 0.0, 0
        self._trace = iter(arrivals(plan, self._random) if trace is None else trace)
        self._handlers: dict[int, Callable[[int], None]] = {
            END: self._end, TIRED: self._tire, READY: self._replicas.ready, GO: self._go_on, LOOK: self._look,
            DECIDE: self._decide, CRASH: self._crash, ROLL: self._roll, SEEK: self._seek, KILL: self._kill,
        }  # fmt: skip

    def run(self) -> Outcome:
        """Simulate to the end."""
        plan = self.plan
        for kind, after in ((LOOK, 0.0), (DECIDE, plan.decide if plan.target else math.inf)):
            self._at(after, kind)
        self._at(self._until_crash(), CRASH)
        self._at(3600 / plan.rolls / ROLL_ROUNDS if plan.rolls else math.inf, ROLL)
        arrival = next(self._trace, None)
        while True:
            due = self._events[0][0] if self._events else math.inf
            if min(due, math.inf if arrival is None else arrival[0]) >= plan.seconds:
                break
            self.outcome.events += 1
            if arrival is not None and arrival[0] <= due:
                self._pass(arrival[0])
                self._arrive(arrival[1], arrival[2])
                arrival = next(self._trace, None)
            else:
                when, kind, what = heapq.heappop(self._events)
                self._pass(when)
                self._handlers[kind](what)
        self._pass(plan.seconds)
        return self.outcome

    @property
    def _counts(self) -> bool:
        return self._now >= self.plan.warm_up

    def _at(self, when: float, kind: int, what: int = 0) -> None:
        if when < self.plan.seconds:
            heapq.heappush(self._events, (when, kind, what))

    def _pass(self, now: float) -> None:
        since = max(self._now, self.plan.warm_up)
        if now > since:
            self.outcome.talking_seconds += self._talking * (now - since)
            self.outcome.place_capacity += self._replicas.paid * self.plan.places * (now - since)
            self.outcome.peak = max(self.outcome.peak, self._replicas.paid)
        self._now = now

    # Placing.

    def _arrive(self, length: float, first: int) -> None:
        plan, outcome, counts = self.plan, self.outcome, self._counts
        outcome.arrived += counts
        self._number += 1
        tried: list[int] = []
        for count in range(1, plan.tries + 1):
            index = first if first >= 0 and count == 1 else self._replicas.choose(tried)
            if index < 0:
                break
            replica = self._replicas[index]
            if self._replicas.has_place(index):
                self._begin(self._number, index, length)
                outcome.placed += counts
                if counts:
                    outcome.place_seconds.append(count * plan.try_seconds)
                return
            if replica.state == UP and len(replica.waiting) < plan.queue:
                replica.waiting.append(self._number)
                self._queued[self._number], self._lengths[self._number] = (index, self._now), length
                self._at(self._now + plan.queue_timeout, TIRED, self._number)
                outcome.waited += counts
                return
            tried.append(index)
        outcome.refused += counts

    def _begin(self, call: int, index: int, length: float) -> None:
        self._begin_at(call, index)
        self._at(self._now + length, END, call)

    def _begin_at(self, call: int, index: int) -> None:
        self._replicas[index].take(call)
        self._home[call] = index
        self._talking += 1

    def _end(self, call: int) -> None:
        index = self._home.pop(call, None)
        if index is None:
            self._lost_since.pop(call, None)  # its caller has given up what was not gone on with
            return
        self._leave(call, index)

    def _leave(self, call: int, index: int) -> None:
        replica = self._replicas[index]
        replica.give_up(call)
        self._talking -= 1
        if replica.state == GOING and not replica.talking:
            self._replicas.go(index)
        while replica.waiting and self._replicas.has_place(index):
            waiting = replica.waiting.popleft()
            since = self._queued.pop(waiting)[1]
            self._begin(waiting, index, self._lengths.pop(waiting))
            if since >= self.plan.warm_up:
                self.outcome.placed += 1
                self.outcome.place_seconds.append(self._now - since + self.plan.try_seconds)

    def _tire(self, call: int) -> None:
        if call in self._queued:
            self._replicas[self._queued.pop(call)[0]].waiting.remove(call)
            del self._lengths[call]
            self.outcome.tired += self._counts

    def _look(self, _: int) -> None:
        self._replicas.look()
        self._at(self._now + self.plan.stale, LOOK)

    # Scaling, rolling, failing.

    def _decide(self, _: int) -> None:
        plan = self.plan
        wanted = math.ceil((self._talking + len(self._queued)) / (plan.places * plan.target))
        there = self._replicas.to_come
        if wanted >= there:
            self._low_since = self._now
            for _ in range(wanted - there):
                self._start()
        elif self._now - self._low_since >= plan.down_after and len(self._replicas.up) > 1:
            for index in self._replicas.some(there - wanted):
                self._leave_off(index)
        self._at(self._now + plan.decide, DECIDE)

    def _start(self) -> None:
        self._at(self._now + self.plan.start, READY, self._replicas.start())

    def _take_out(self, index: int, state: int) -> Replica:
        replica = self._replicas.take_out(index, state)
        for call in replica.waiting:  # who waits is told, and asks elsewhere
            del self._queued[call]
            self._lost_since[call] = self._now
            self._at(self._now, SEEK, call)
        replica.waiting.clear()
        return replica

    def _leave_off(self, index: int) -> None:
        replica = self._take_out(index, GOING)
        if not replica.talking:
            self._replicas.go(index)
        elif self.plan.moving:
            for count, call in enumerate(sorted(replica.calls), 1):
                self._at(self._now + count * self.plan.move_seconds, GO, call)
        else:
            self._at(self._now + self.plan.drain, KILL, index)

    def _go_on(self, call: int) -> None:
        """Move a call as planned; where there is no place, it stays and tries again."""
        index = self._home.get(call)
        if index is None or self._replicas[index].state != GOING:
            return
        if self._place_again(call, self.plan.gap):
            self.outcome.moved += self._counts
        else:
            self._at(self._now + 1.0, GO, call)

    def _place_again(self, call: int, gap: float) -> bool:
        tried: list[int] = []
        for _ in range(self.plan.tries):
            index = self._replicas.choose(tried)
            if index >= 0 and self._replicas.has_place(index):
                before = self._home.get(call)
                self._begin_at(call, index)
                if before is not None:
                    self._leave(call, before)
                if self._counts:
                    self.outcome.gaps.append(gap)
                return True
            tried.append(index)
        return False

    def _until_crash(self) -> float:
        rate = self.plan.crashes * max(1, self._replicas.paid) / 3600
        return self._now + self._random.expovariate(rate) if rate else math.inf

    def _crash(self, _: int) -> None:
        self._at(self._until_crash(), CRASH)
        if not self._replicas.up:
            return
        index = self._random.choice(self._replicas.up)
        self.outcome.crashed += self._counts
        replica = self._take_out(index, GONE)
        self._replicas.go(index)
        self._drop(replica, resumable=self.plan.moving)
        self._start()

    def _drop(self, replica: Replica, *, resumable: bool) -> None:
        self._talking -= replica.talking
        for call in sorted(replica.calls):
            del self._home[call]
            if resumable:
                self._lost_since[call] = self._now
                self._at(self._now + self.plan.rebuild, SEEK, call)
            else:
                self.outcome.lost += self._counts
        replica.talking = 0
        replica.calls.clear()

    def _seek(self, call: int) -> None:
        """Find a place for a call that has none, or for somebody who waited."""
        since = self._lost_since.get(call)
        if since is None:
            return
        if (length := self._lengths.pop(call, None)) is not None:
            del self._lost_since[call]
            self.outcome.arrived -= self._counts
            self._arrive(length, -1)
        elif self._place_again(call, self._now - since):
            del self._lost_since[call]
            self.outcome.rebuilt += self._counts
        elif self._now - since >= self.plan.grace:
            del self._lost_since[call]
            self.outcome.lost += self._counts
        else:
            self._at(self._now + 1.0, SEEK, call)

    def _roll(self, _: int) -> None:
        for index in self._replicas.some(max(0, len(self._replicas.up) - 1)):
            self._leave_off(index)
            self._start()
        self._at(self._now + 3600 / self.plan.rolls / ROLL_ROUNDS, ROLL)

    def _kill(self, index: int) -> None:
        """End what is still going on when the time to drain is over."""
        replica = self._replicas[index]
        if replica.state == GOING:
            self._drop(replica, resumable=False)
            self._replicas.go(index)
