"""What callers notice when a server stops, dies, or their line breaks: two servers, real processes, real sockets.

    python benchmarks/moving_calls.py --calls 2

For each caller: the longest time without sound, what it was told to have lost, and whether its conversation went on.
"""

import argparse
import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from itertools import pairwise

import anyio
import numpy as np

import duplex

FRAME = 1920
RATE = 24000
WARM_FRAMES = 20
"""Heard by each caller before anything is measured: a model's first steps are slow."""


class Server:
    """A server process on a port."""

    def __init__(self, port: int, *options: str) -> None:
        command = [sys.executable, "-m", "duplex", "serve", "--port", str(port), *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        told = self.process.stderr
        while told is not None and not re.search(r"listens at", line := told.readline()):
            if not line:
                raise SystemExit("a server did not start")
        if told is not None:
            threading.Thread(target=told.read, daemon=True).start()


class Line:
    """A proxy that can be cut."""

    def __init__(self, upstream: int) -> None:
        self.upstream, self.open, self.sockets = upstream, True, []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self.open = False
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.sockets.clear()

    def _accept(self) -> None:
        while True:
            accepted, _ = self.listening.accept()
            if not self.open:
                accepted.close()
                continue
            try:
                pair = accepted, socket.create_connection(("127.0.0.1", self.upstream))
            except OSError:
                accepted.close()
                continue
            self.sockets += pair
            for source, target in (pair, pair[::-1]):
                threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


class Microphone:
    """A live transport: speech-like noise at the pace of a clock; notes when sound comes."""

    realtime = True

    def __init__(self, seed: int) -> None:
        self._noise, self._due, self.heard = np.random.default_rng(seed), 0.0, []

    async def start(self, _: int) -> None:
        """Begin."""
        self._due = anyio.current_time()

    async def receive(self) -> np.ndarray:
        """Return a frame when it is due."""
        self._due += FRAME / RATE
        await anyio.sleep_until(self._due)
        return (0.05 * self._noise.standard_normal(FRAME)).astype(np.float32)

    async def send(self, _: np.ndarray) -> None:
        """Note that a frame has come."""
        self.heard.append(anyio.current_time())

    async def finish(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""


class Caller:
    """A call, from now on, and what it notices."""

    def __init__(self, url: str, number: int) -> None:
        self.microphone, self.events, self.error = Microphone(number), [], None
        self.call = duplex.connect(url, self.microphone, options=duplex.SessionOptions(seed=number), audio_events=False)

    async def talk(self) -> None:
        """Hold the conversation."""
        try:
            async with self.call as conversation:
                async for event in conversation:
                    self.events.append(event)
        except duplex.DuplexError as error:
            self.error = error

    def gap(self) -> float:
        """Return the longest time without sound beyond a frame's, after the first seconds."""
        heard = self.microphone.heard[WARM_FRAMES:]
        return max((later - earlier for earlier, later in pairwise(heard)), default=0.0) - 0.08

    def lost(self) -> float:
        """Return the seconds that were told as lost."""
        return sum(event.dropped for event in self.events if isinstance(event, duplex.Lag) and event.side == "user")

    def whole(self, since: float) -> bool:
        """Tell whether one session goes on after ``since``."""
        started = sum(isinstance(event, duplex.SessionStarted) for event in self.events)
        return self.error is None and started == 1 and self.microphone.heard[-1] > since


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in bound]
    for each in bound:
        each.close()
    return ports


@contextlib.contextmanager
def servers(model: str, calls: int) -> Iterator[tuple[Server, Server, list[int]]]:
    """Run two servers, each with room for the other's calls."""
    ports = free_ports(2)
    with tempfile.TemporaryDirectory() as folder:
        common = ["--model", model, "--sessions", str(2 * calls), "--state-store", folder]
        pair = [Server(port, *common, "--move-to", f"http://127.0.0.1:{other}") for port, other in (ports, ports[::-1])]
        try:
            yield pair[0], pair[1], ports
        finally:
            for each in pair:
                each.process.kill()
                each.process.wait()


async def measure(what: str, model: str, calls: int, seconds: float) -> None:
    """Hold calls on both servers, have something happen to the first, and print what its callers notice."""
    with servers(model, calls) as (first, _, ports):
        lines = [Line(ports[0]) for _ in range(calls)]
        mine = [Caller(f"http://127.0.0.1:{line.port}", number) for number, line in enumerate(lines)]
        others = [Caller(f"http://127.0.0.1:{ports[1]}", calls + number) for number in range(calls)]
        async with anyio.create_task_group() as tasks:
            for each in (*mine, *others):
                tasks.start_soon(each.talk)
            with anyio.fail_after(90):
                while min(len(each.microphone.heard) for each in (*mine, *others)) < WARM_FRAMES:  # noqa: ASYNC110 -- enough
                    await anyio.sleep(0.1)
            await anyio.sleep(seconds)
            at = anyio.current_time()
            if what == "drained":
                first.process.send_signal(signal.SIGTERM)
            elif what == "killed":
                first.process.kill()
                for line in lines:  # as a balancer does
                    line.upstream = ports[1]
            else:
                lines[0].cut()
                await anyio.sleep(10)
                lines[0].open = True
            await anyio.sleep(10)
            tasks.cancel_scope.cancel()
        hit = mine[:1] if what == "cut" else mine
        gaps = [each.gap() for each in hit]
        whole = sum(each.whole(at + 5) for each in hit)
        print(
            f"{what:8} calls {len(hit)}, go on {whole}; gap heard: median {statistics.median(gaps):.2f} s, "
            f"largest {max(gaps):.2f} s; told as lost: {max(each.lost() for each in hit):.2f} s; "
            f"other callers' largest gap {max(each.gap() for each in others):.2f} s; load {os.getloadavg()[0]:.1f}"
        )
        for each in (*mine, *others):
            if each.error is not None:
                print(f"         {each.error}")


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--calls", type=int, default=2, help="on each server")
    parser.add_argument("--seconds", type=float, default=8.0, help="before it happens")
    given = parser.parse_args()
    for what in ("drained", "killed", "cut"):
        anyio.run(measure, what, given.model, given.calls, given.seconds)


if __name__ == "__main__":
    main()
