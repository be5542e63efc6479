"""Many callers for few places, through the ingress of a cluster: who gets one, who is refused, after how long.

    python benchmarks/cluster_placement.py [--callers 200] [--seconds 1] [--replicas 2] [--places 12] [--runs 3]

A Ray cluster on this machine with replicas that hold the stand-in model and have no queue. Callers come evenly over so
many seconds, with the client's own code of `duplex.connect`; those who get a place keep it until all have an answer.
"""

import argparse
import asyncio
import contextlib
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Sequence
from pathlib import Path

import anyio
import attrs
from rich.console import Console
from rich.table import Table

from duplex.cluster.serving import Replicas, serve_on_cluster
from duplex.cluster.serving.assignment import Held
from duplex.conversation.remote_line import RemoteLine
from duplex.errors import ServerError
from duplex.server import Listening, Settings
from duplex.transports import wire

FULL = "every place is taken"
PATIENCE = 60.0
SETTLE = 1.5
"""Seconds between two runs, in which replicas tell that they are free again."""


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1.0, help="within which they come")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--places", type=int, default=12, help="of each replica")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ray", default="local", help="the cluster's address")
    parser.add_argument("--as-cluster", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


@attrs.frozen
class StandInLoading:
    """Gives each replica a stand-in model, whose module lies in a folder."""

    places: int
    folder: str

    @contextlib.contextmanager
    def opened(self) -> Generator[Held]:
        """Give it."""
        sys.path.append(self.folder)
        from stand_in import stand_in  # noqa: PLC0415 -- where a replica runs, it is not on the path before

        with stand_in(self.places) as model:
            yield Held([model])


def run_cluster(arguments: argparse.Namespace) -> None:
    """Be the cluster, until told to stop."""
    serve_on_cluster(
        StandInLoading(arguments.places, str(Path(__file__).parent)),
        Replicas(address=arguments.ray, least=arguments.replicas, most=arguments.replicas, cpus=0.5),
        Settings(queue=0),
        Listening(port=0, drain=0),
        started=lambda port: print(port, flush=True),
    )


@attrs.define
class Found:
    """What callers were told; seconds from their coming until they knew."""

    placed: list[float] = attrs.field(factory=list[float])
    refused: list[float] = attrs.field(factory=list[float])
    lost: list[str] = attrs.field(factory=list[str])
    tries: list[int] = attrs.field(factory=list[int])
    """Places that each who got one asked at."""


async def call(url: str, comes: float, known: asyncio.Semaphore, over: asyncio.Event, found: Found) -> None:
    """Come, ask for a place, and keep it until all have an answer."""
    await asyncio.sleep(max(0.0, comes - time.monotonic()))
    began, line = time.monotonic(), RemoteLine(f"{url}/api/chat?events=full", {}, None, resends=False)
    try:
        async with asyncio.timeout(PATIENCE):
            found.tries.append(await find_place(line))
    except ServerError as error:
        if FULL in str(error):
            found.refused.append(time.monotonic() - began)
        else:
            found.lost.append(str(error))
        known.release()
    except TimeoutError:
        found.lost.append("no answer")
        known.release()
    else:
        found.placed.append(time.monotonic() - began)
        known.release()
        await over.wait()
        await line.aclose()


async def find_place(line: RemoteLine) -> int:
    """Return at how many replicas was asked until one let the caller in."""
    await line.connect()
    tries = 1
    while not await let_in(line):
        await line.aclose()
        if not await line.try_next():
            raise ServerError(FULL)
        tries += 1
    return tries


async def let_in(line: RemoteLine) -> bool:
    """Return whether a session begins; else the replica has refused."""
    try:
        while True:
            message = await line.receive()
            if message is not None and message.kind is wire.Kind.HANDSHAKE:
                return True
    except anyio.EndOfStream:
        if line.websocket.close_code != 1013:
            raise ServerError(f"the call was closed with {line.websocket.close_code}") from None
        return False


async def run_callers(url: str, arguments: argparse.Namespace) -> tuple[Found, Sequence[int]]:
    """Let all come; return what they found, and how many each replica held then."""
    found, known, over = Found(), asyncio.Semaphore(0), asyncio.Event()
    began = time.monotonic() + 0.2
    every = arguments.seconds / arguments.callers
    tasks = [
        asyncio.create_task(call(url, began + every * index, known, over, found)) for index in range(arguments.callers)
    ]
    for _ in tasks:
        await known.acquire()
    text = await asyncio.to_thread(read, f"{url}/metrics".replace("ws:", "http:"))
    held = [int(float(each)) for each in re.findall(r"^duplex_sessions\{.*\} (\S+)$", text, re.MULTILINE)]
    over.set()
    await asyncio.gather(*tasks)
    return found, held


def read(url: str) -> str:
    """Return what is there."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 -- this machine's
        return answer.read().decode()


def shown(values: Sequence[float]) -> str:
    """Return the median, the 99th percentile and the largest, in milliseconds."""
    if not values:
        return "-"
    ordered = sorted(values)
    middle = (statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], ordered[-1])
    return " / ".join(f"{1000 * each:.0f}" for each in middle)


def main() -> None:
    """Measure and print, or be the cluster."""
    arguments = parse()
    if arguments.as_cluster:
        run_cluster(arguments)
        return
    places = f"{arguments.replicas} x {arguments.places} places"
    table = Table(
        title=f"{arguments.callers} callers in {arguments.seconds:g} s for {places}; load {os.getloadavg()[0]:.1f}"
    )
    for name in ("placed", "refused", "lost", "held", "until a place, ms 50/99/100 %", "until a refusal", "asked at"):
        table.add_column(name)
    command = [sys.executable, __file__, *sys.argv[1:], "--as-cluster"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as cluster:
        told = cluster.stdout.readline() if cluster.stdout else ""
        try:
            for _ in range(arguments.runs if told else 0):
                found, held = asyncio.run(run_callers(f"ws://127.0.0.1:{int(told)}", arguments))
                asked = statistics.fmean(found.tries or [0])
                row = (len(found.placed), len(found.refused), len(found.lost), held, shown(found.placed))
                table.add_row(*(str(each) for each in row), shown(found.refused), f"{asked:.2f}")
                for each in sorted(set(found.lost)):
                    print("lost:", each)
                time.sleep(SETTLE)
        finally:
            cluster.terminate()
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
