"""Attack `duplex serve` while a well-behaved caller talks: what that caller hears, and what is left afterwards.

    python benchmarks/attacks.py [--seconds 20] [--storm MINUTES] [--only NAME ...] [--nice N]

The server is a process of its own with few descriptors, and so are all attackers together (``attackers.py``). The
neighbour talks at the pace of a clock and should hear a frame every 80 ms, whatever the others do. States of
conversations do not come over the wire, so there is no attack with a hostile one.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import IO, Self, cast

import attrs
import numpy as np
import psutil
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect

from attackers import ATTACKS
from duplex.audio.opus import OpusWriter
from duplex.transports import wire
from server_crowd import FRAME, RATE, SECONDS

TOKEN = "a-token-of-the-benchmark"  # noqa: S105 -- of a server that lives for minutes
BEARER = {"Authorization": f"Bearer {TOKEN}"}
DESCRIPTORS = 256
"""That the server may open."""
DELAY = "duplex_event_loop_delay_seconds"
STORM = [name for name in ATTACKS if name != "half-tls"]
CALM_SECONDS = 35.0
"""Before what is at rest is looked at: more than the deadline of a connection."""
PAUSE = 3.0
"""Seconds between two attacks."""
COLUMNS = (
    "attack",
    "s",
    "neighbour's frames / expected",
    "longest gap, s",
    "loop's delay, 99 %, < ms",
    "CPU, server / attackers",
    "load",
    "log, KiB",
    "attackers' connections, by first answer",
)


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack")
    parser.add_argument("--storm", type=float, default=0.0, metavar="MINUTES", help="all attacks at once")
    parser.add_argument("--only", nargs="*", default=list(ATTACKS), choices=list(ATTACKS), help="attacks, one by one")
    parser.add_argument("--nice", type=int, default=0, help="of the attackers: 19 leaves the server its CPU")
    parser.add_argument("--log", type=Path, metavar="FILE", help="where the server's log goes")
    return parser.parse_args()


@attrs.define
class Server:
    """A server process."""

    process: psutil.Popen
    port: int
    log: Path
    tls: ssl.SSLContext | None = None

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path, log: Path, *, tls: bool) -> Generator[Self]:
        """Run one until the block ends."""
        tokens = folder / "tokens"
        tokens.write_text(TOKEN, encoding="utf-8")
        command = [sys.executable, "-m", "duplex", "serve", "--port", "0", "--model", "tiny", "--sessions", "2"]
        command += ["--queue", "4", "--record", str(folder / "calls"), "--token-file", str(tokens)]
        with log.open("wb") as file:
            process = psutil.Popen(command + ["--tls"] * tls, stderr=file, preexec_fn=_few_descriptors)
        try:
            while "listens at" not in (told := log.read_text(encoding="utf-8")):
                if process.poll() is not None:
                    raise RuntimeError(told)
                time.sleep(0.1)
            port = int(told.strip().splitlines()[-1].rsplit(":", 1)[1])
            yield cls(process, port, log, _insecure() if tls else None)
        finally:
            if process.poll() is None:
                process.kill()

    def get(self, path: str) -> str:
        """Return an answer's body."""
        if self.tls:
            line: HTTPConnection = HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)
        else:
            line = HTTPConnection("127.0.0.1", self.port, timeout=30)
        line.request("GET", path)
        body = line.getresponse().read().decode()
        line.close()
        return body

    def delays(self) -> dict[float, float]:
        """Return how often the event loop was at most so late, by seconds."""
        buckets = (line.split('le="')[1] for line in self.get("/metrics").splitlines() if line.startswith(f"{DELAY}_b"))
        return {float(line.split('"')[0]): float(line.rsplit(" ", 1)[1]) for line in buckets}

    def at_rest(self) -> dict[str, float]:
        """Return what is there when nobody calls."""
        time.sleep(CALM_SECONDS)
        ready = json.loads(self.get("/readyz"))
        return {
            "places taken": ready["sessions"],
            "queue": ready["queue"],
            "threads": self.process.num_threads(),
            "descriptors": self.process.num_fds(),
            "MiB": round(self.process.memory_info().rss / 2**20),
        }

    def stop(self) -> int:
        """End it; return its exit status."""
        self.process.terminate()
        return self.process.wait(60)


def _machine() -> str:
    """Return what the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.split(": ")[1] for line in info.splitlines() if line.startswith("model name")), "")
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _insecure() -> ssl.SSLContext:
    """Return what believes a certificate that the server has made for itself."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


class Neighbour:
    """A caller with Opus, at the pace of a clock."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.heard: list[float] = []
        """When the frames came."""

    async def __aenter__(self) -> Self:
        """Call, and talk until the figures mean something."""
        scheme = "wss" if self._server.tls else "ws"
        url = f"{scheme}://127.0.0.1:{self._server.port}/api/chat"
        self._line = await connect(url, additional_headers=BEARER, compression=None, ssl=self._server.tls)
        self._tasks = [asyncio.ensure_future(self._talk()), asyncio.ensure_future(self._listen())]
        while len(self.heard) < 50:
            await asyncio.sleep(0.1)
            self.check()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up."""
        for task in self._tasks:
            task.cancel()
        await self._line.close()

    def check(self) -> None:
        """Raise what ended the call, if something has."""
        for task in self._tasks:
            if task.done():
                task.result()
                raise RuntimeError(f"the neighbour's call has ended: {self._line.close_code}")

    async def _talk(self) -> None:
        writer, noise = OpusWriter(RATE), np.random.default_rng(0)
        await self._line.send(wire.audio(writer.header()))
        due = time.monotonic()
        while True:
            due += SECONDS
            await asyncio.sleep(due - time.monotonic())
            await self._line.send(wire.audio(writer.encode(noise.normal(0, 0.05, FRAME).astype(np.float32))))

    async def _listen(self) -> None:
        async for message in self._line:
            found = wire.parse(cast("bytes", message))
            if found is not None and found.kind is wire.Kind.AUDIO and not found.payload.startswith(b"OpusHead", 28):
                self.heard.append(time.monotonic())


async def under_attack(server: Server, neighbour: Neighbour, names: list[str], seconds: float, nice: int) -> list[str]:
    """Attack for so long; return a row of the table."""
    wanted = {"names": names, "port": server.port, "token": TOKEN, "seconds": seconds}
    before, log, cpu = await asyncio.to_thread(server.delays), server.log.stat().st_size, _cpu(server.process)
    began = time.monotonic()
    attackers = psutil.Popen(
        ["nice", "-n", str(nice), sys.executable, str(Path(__file__).with_name("attackers.py"))],
        stdout=subprocess.PIPE,
        env={**os.environ, "ATTACK": json.dumps(wanted)},
    )
    theirs = 0.0
    while attackers.poll() is None:
        with contextlib.suppress(psutil.Error):
            theirs = _cpu(attackers)
        await asyncio.sleep(0.25)
        neighbour.check()
    ended = time.monotonic()
    load = os.getloadavg()[0]
    told: dict[str, int] = json.loads(cast("IO[bytes]", attackers.stdout).read() or "{}")
    used = (_cpu(server.process) - cpu) / (ended - began)
    after = await asyncio.to_thread(server.delays)
    heard = [began, *(moment for moment in neighbour.heard if began <= moment <= ended), ended]
    return [
        ", ".join(names) if len(names) < 3 else "storm",
        f"{ended - began:.0f}",
        f"{len(heard) - 2} / {(ended - began) / SECONDS:.0f}",
        f"{max(np.diff(heard)):.2f}",
        f"{1000 * _share({edge: after[edge] - before[edge] for edge in after}, 0.99):.0f}",
        f"{100 * used:.0f} / {100 * theirs / (ended - began):.0f} %",
        f"{load:.1f}",
        f"{(server.log.stat().st_size - log) / 1024:.0f}",
        ", ".join(f"{what} {count}" for what, count in sorted(told.items())),
    ]


def _cpu(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def _share(counts: Mapping[float, float], share: float) -> float:
    """Return the upper edge of the bucket of a histogram in which a share of it ends."""
    total = counts[float("inf")]
    return next(edge for edge, count in counts.items() if count >= share * total)


async def measure(arguments: argparse.Namespace, folder: Path, *, tls: bool) -> tuple[list[list[str]], list[str]]:
    """Attack a server of its own; return the table's rows, and lines on what was left at rest."""
    names = [name for name in arguments.only if (name == "half-tls") is tls]
    if not names:
        return [], []
    log = arguments.log or folder / "log"
    with Server.started(folder, log, tls=tls) as server:
        async with Neighbour(server):
            pass  # what the first call of all makes is not the attackers'
        before = await asyncio.to_thread(server.at_rest)
        async with Neighbour(server) as neighbour:
            rows = [await under_attack(server, neighbour, [], arguments.seconds, 0)]
            for name in names:
                rows.append(await under_attack(server, neighbour, [name], arguments.seconds, arguments.nice))
                print(*rows[-1], sep=" | ", flush=True)
                await asyncio.sleep(PAUSE)
            if arguments.storm and not tls:
                rows.append(await under_attack(server, neighbour, STORM, 60 * arguments.storm, arguments.nice))
        after = await asyncio.to_thread(server.at_rest)
        status = server.stop()
    rest = [f"{what}: {number:g} before, {after[what]:g} after" for what, number in before.items()]
    return rows, [f"at rest{' (TLS)' * tls}, exit status {status}; " + "; ".join(rest)]


def main() -> None:
    """Attack and print."""
    arguments = parse()
    # Thousands of silent connections are the attackers', who inherit this.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder:
        rows, rest = asyncio.run(measure(arguments, Path(folder), tls=False))
        more, left = asyncio.run(measure(arguments, Path(folder), tls=True))
    table = Table(title=f"{time.strftime('%Y-%m-%d')}, {_machine()}, attackers' nice {arguments.nice}", box=MARKDOWN)
    for column in COLUMNS:
        table.add_column(column)
    for row in rows + more:
        table.add_row(*row)
    console = Console(width=240)
    console.print(table)
    for line in rest + left:
        console.print(line, highlight=False)


if __name__ == "__main__":
    main()
