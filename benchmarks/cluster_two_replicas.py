"""Hold the simulated fleet against a real one: two `duplex serve` processes, and callers who come by chance.

    python benchmarks/cluster_two_replicas.py [--calls 9 12] [--seconds 120] [--talk 4] [--places 6] [--queue 2]

Both are given the same callers: when each comes, how long it talks, and which replica it asks first. The model is the
stand-in, the callers open a websocket, listen, and hang up. The third row is the simulator's range over other chances.
"""

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import time
from typing import Any, cast

import anyio
import attrs
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from cluster_fleet import Fleet
from cluster_plan import Outcome, Plan, arrivals
from duplex.server import Listening, Settings, serve
from duplex.transports import wire
from stand_in import stand_in

OTHER_CHANCES = 100
REPLICAS = 2


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=float, nargs="+", default=[9.0, 12.0], help="offered load")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--talk", type=float, default=4.0)
    parser.add_argument("--places", type=int, default=6)
    parser.add_argument("--queue", type=int, default=2)
    parser.add_argument("--queue-timeout", type=float, default=3.0)
    parser.add_argument("--as-server", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_server(arguments: argparse.Namespace) -> None:
    """Be a replica."""
    settings = Settings(queue=arguments.queue, queue_timeout=arguments.queue_timeout, idle_timeout=0)
    with stand_in(arguments.places) as model:
        anyio.run(
            lambda: serve(model, settings, Listening(port=0, drain=0), started=lambda port: print(port, flush=True)),
            backend_options={"use_uvloop": True},
        )


@attrs.define
class Measured:
    """What callers saw."""

    arrived: int = 0
    refused: int = 0
    waits: list[float] = attrs.field(factory=list[float])
    """Seconds until a place, of those who were let into a queue and got one."""
    at_once: list[float] = attrs.field(factory=list[float])
    """Seconds until a place, of all others who got one."""
    talking: float = 0.0


async def call(ports: list[int], caller: tuple[float, float, int], began: float, end: float, found: Measured) -> None:
    """Be a caller: come, wait, talk, and hang up; or try the other replica."""
    arrival, length, first = caller
    await asyncio.sleep(max(0.0, began + arrival - time.monotonic()))
    found.arrived += 1
    came = time.monotonic()
    for index in (first, 1 - first):
        async with connect(f"ws://127.0.0.1:{ports[index]}/api/chat", compression=None) as line:
            queued = False
            try:
                while True:
                    message = wire.parse(await line.recv())
                    if message.kind is wire.Kind.HANDSHAKE:
                        break
                    queued = queued or message.kind is wire.Kind.METADATA
            except ConnectionClosed:
                if queued:  # it waited for too long
                    break
                continue
            start = time.monotonic()
            (found.waits if queued else found.at_once).append(start - came)
            until = min(start + length, end)
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - start):
                    while True:
                        await line.recv()
            except TimeoutError:
                found.talking += time.monotonic() - start
            return
    found.refused += 1


async def run_callers(ports: list[int], trace: list[tuple[float, float, int]], seconds: float) -> Measured:
    """Let all of them come; who is there at the end is cut off."""
    found = Measured()
    began = time.monotonic() + 0.5
    end = began + seconds
    tasks = [asyncio.create_task(call(ports, caller, began, end, found)) for caller in trace]
    await asyncio.sleep(end - time.monotonic() + 1.0)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    return found


def plan_of(arguments: argparse.Namespace, calls: float, seed: int, connecting: float = 0.0) -> Plan:
    """Return the same as a simulation."""
    return Plan(
        calls=calls,
        talk=arguments.talk,
        seconds=arguments.seconds,
        places=arguments.places,
        queue=arguments.queue,
        queue_timeout=arguments.queue_timeout,
        placement="random",
        tries=2,
        try_seconds=connecting,
        replicas=REPLICAS,
        seed=seed,
    )


def trace_of(plan: Plan) -> list[tuple[float, float, int]]:
    """Return who comes, of one chance."""
    draw, found = random.Random(plan.seed), []  # noqa: S311 -- a simulation
    for arrival, length, _ in arrivals(plan, draw):
        if arrival >= plan.seconds:
            return found
        found.append((arrival, length, draw.randrange(REPLICAS)))
    return found


def simulated(outcome: Outcome) -> dict[str, float]:
    """Return what is compared, of a simulation."""
    waits = [each for each in outcome.place_seconds if each > 0.02]
    return {
        "refused": outcome.refused_share,
        "waited": len(waits) / max(1, outcome.arrived),
        "wait": statistics.fmean(waits) if waits else 0.0,
        "occupancy": outcome.occupancy,
    }


def main() -> None:
    """Measure, simulate and print, or be a replica."""
    arguments = parse()
    if arguments.as_server:
        run_server(arguments)
        return
    title = f"{arguments.seconds:g} s, calls of {arguments.talk:g} s, 2 x {arguments.places} places"
    table = Table(title=f"{title}, queues of {arguments.queue}; load {os.getloadavg()[0]:.1f}")
    for name in ("offered", "", "callers", "refused", "waited", "mean wait, s", "occupancy"):
        table.add_column(name)
    command = [sys.executable, __file__, *sys.argv[1:], "--as-server"]
    servers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(REPLICAS)]
    try:
        ports = [int(cast("Any", server.stdout).readline()) for server in servers]
        for calls in arguments.calls:
            compare(arguments, calls, ports, table)
    finally:
        for server in servers:
            server.terminate()
            server.communicate()
    Console(width=140).print(table)


def compare(arguments: argparse.Namespace, calls: float, ports: list[int], table: Table) -> None:
    """Add the rows of one load."""
    trace = trace_of(plan_of(arguments, calls, seed=1))
    found = asyncio.run(run_callers(ports, trace, arguments.seconds))
    connecting = statistics.median(found.at_once)
    real = {
        "refused": found.refused / found.arrived,
        "waited": len(found.waits) / found.arrived,
        "wait": statistics.fmean(found.waits or [0.0]),
        "occupancy": found.talking / (REPLICAS * arguments.places * arguments.seconds),
    }
    same = simulated(Fleet(plan_of(arguments, calls, seed=1), trace).run())
    others = [simulated(Fleet(plan_of(arguments, calls, seed=seed)).run()) for seed in range(2, OTHER_CHANCES + 2)]
    middle = {
        name: tuple(sorted(each[name] for each in others)[OTHER_CHANCES * share // 100] for share in (5, 95))
        for name in real
    }

    def shown(values: dict[str, float]) -> list[str]:
        return [f"{values[name]:.3f}" for name in real]

    table.add_row(f"{calls:g}", "measured", str(found.arrived), *shown(real))
    table.add_row("", "simulated, same callers", str(len(trace)), *shown(same))
    table.add_row("", "simulated, 90 % of others", "", *(f"{low:.3f} to {high:.3f}" for low, high in middle.values()))
    table.add_row("", f"a free place: {1000 * connecting:.0f} ms median, {1000 * max(found.at_once):.0f} most")


if __name__ == "__main__":
    main()
