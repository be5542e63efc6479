"""Simulate thousands of calls on a fleet of GPUs: how many are needed, who is lost, what saturates first.

    python benchmarks/cluster_simulator.py [--calls 10000] [--talk 180] [--crashes 0.002] [--rolls 1] [--surge 1.5] …
    python benchmarks/cluster_simulator.py --compare        # placements, moving or not, targets, side by side

What one call costs was measured on this project's code or is an input: COSTS says which. How calls come, how long they
last and how replicas fail are inputs: nobody's traffic was measured. `cluster_fleet.py` has the rules.
"""

import argparse
import os
import time
from collections.abc import Iterator

import attrs
from rich.console import Console
from rich.table import Table

from cluster_fleet import Fleet
from cluster_plan import Outcome, Plan

WARM_UP = 300.0
DEFAULTS = {"calls": 10_000.0, "target": 0.8}


@attrs.frozen
class Cost:
    """What calls take of something, and what one of it gives."""

    name: str
    each: float
    """A call that goes on, or with ``arrival`` one that comes."""
    one: float
    """Of what there is once, in the same unit."""
    unit: str
    source: str
    arrival: bool = False
    shared: bool = False
    """Whether there is one of it for the whole fleet, or one in each replica."""


COSTS = (
    Cost("model steps", 1 / 96, 1.0, "GPU", "96 calls on an H200"),
    Cost("websockets, uvicorn", 0.0013, 16.0, "cores of a node", "0.10 to 0.16 % of a core a call"),
    Cost("Opus in and out", 0.0038, 16.0, "cores of a node", "38 cores for 10,000 calls"),
    Cost("network of a node", 42e-6, 10.0, "Gbit/s", "0.42 Gbit/s for 10,000 calls"),
    Cost("gateway: messages", 25.0, 1e6, "messages/s", "12.5 a second each way; an input: 1 M/s a proxy", shared=True),
    Cost("token logs to the store", 100e3 * 8e-9 / 5, 10.0, "Gbit/s", "100 kB every 5 s; 10 Gbit/s", shared=True),
    Cost("store: memory", 100e3 / 2**30, 64.0, "GiB", "100 kB a call; an input: 64 GiB", shared=True),
    Cost("placing", 1.0, 300.0, "callers/s", "an input: 300 a second", arrival=True, shared=True),
)


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for field in attrs.fields(Plan):
        if field.name == "moving":
            parser.add_argument("--staying", action="store_true", help="calls cannot move")
        elif field.name not in ("warm_up", "filled"):
            default = DEFAULTS.get(field.name, field.default)
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--compare", action="store_true", help="several ways to run a fleet, side by side")
    return parser.parse_args()


def plan_of(arguments: argparse.Namespace) -> Plan:
    """Return what is simulated."""
    given = {name: value for name, value in vars(arguments).items() if name not in ("compare", "staying")}
    return Plan(**given, moving=not arguments.staying, warm_up=WARM_UP, filled=True)


def variants(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Yield ways to run a fleet, each with a name."""
    yield "a placer, calls move", plan
    gateway = attrs.evolve(plan, placement="gateway", stale=1.0, tries=1)
    yield "a gateway by readiness, one try", gateway
    yield "a gateway by readiness, three tries", attrs.evolve(gateway, tries=3)
    yield "any replica, one try", attrs.evolve(plan, placement="random", tries=1)
    yield "any replica, one try, queues of 16", attrs.evolve(plan, placement="random", tries=1, queue=16)
    yield "a placer, calls cannot move", attrs.evolve(plan, moving=False)
    yield "a placer, 0.9 of places", attrs.evolve(plan, target=0.9)
    yield "a placer, 0.97 of places", attrs.evolve(plan, target=0.97)


def row(name: str, plan: Plan, outcome: Outcome, seconds: float) -> list[str]:
    """Return a run's figures."""
    median, late, latest = outcome.quantiles(outcome.place_seconds)
    gaps = outcome.quantiles(outcome.gaps)
    return [
        name,
        f"{outcome.place_capacity / plan.places / (plan.seconds - plan.warm_up):.0f}, {outcome.peak}",
        f"{outcome.occupancy:.3f}",
        f"{outcome.arrived}",
        f"{100 * outcome.refused_share:.3f} %",
        f"{outcome.lost}",
        f"{outcome.moved}, {outcome.rebuilt}",
        " / ".join(f"{each:.2f}" for each in gaps),
        f"{1000 * median:.0f} / {1000 * late:.0f} / {1000 * latest:.0f}",
        f"{outcome.events / 1e6:.1f} M, {seconds:.0f} s",
    ]


def saturation(plan: Plan, outcome: Outcome) -> Table:
    """Return what is used of each thing at the mean load, the most used first."""
    table = Table(title="what saturates first: at the mean load; of what is there once, or in each replica's node")
    for name in ("", "used", "of one", "units needed", "from"):
        table.add_column(name)
    span = plan.seconds - plan.warm_up
    calls, arrivals = outcome.talking_seconds / span, outcome.arrived / span
    replicas = outcome.place_capacity / plan.places / span
    rows: list[tuple[float, Cost, float]] = []
    for cost in COSTS:
        used = cost.each * (arrivals if cost.arrival else calls)
        rows.append((used / cost.one / (1.0 if cost.shared else replicas), cost, used))
    for share, cost, used in sorted(rows, key=lambda each: -each[0]):
        needed = used / cost.one
        table.add_row(cost.name, f"{used:.4g} {cost.unit}", f"{100 * share:.1f} %", f"{needed:.1f}", cost.source)
    return table


def main() -> None:
    """Simulate and print."""
    arguments = parse()
    plan = plan_of(arguments)
    title = f"{plan.calls:g} calls of {plan.talk:g} s ({plan.shape}), {plan.seconds:g} s, surge {plan.surge:g}"
    table = Table(
        title=f"{title}; {plan.crashes:g} crashes a replica and hour, {plan.rolls:g} rolls an hour; "
        f"machine's load {os.getloadavg()[0]:.1f}"
    )
    for name in (
        "",
        "GPUs: mean, peak",
        "taken",
        "callers",
        "refused",
        "calls lost",
        "moved, rebuilt",
        "gap 50/99/100 %, s",
        "to a place 50/99/100 %, ms",
        "events, CPU",
    ):
        table.add_column(name)
    ways = variants(plan) if arguments.compare else iter([(plan.placement, plan)])
    first: Outcome | None = None
    for name, each in ways:
        began = time.process_time()
        outcome = Fleet(each).run()
        table.add_row(*row(name, each, outcome, time.process_time() - began))
        first = first or outcome
    console = Console(width=190)
    console.print(table)
    if first is not None:
        console.print(saturation(plan, first))


if __name__ == "__main__":
    main()
