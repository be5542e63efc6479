"""Measure how many conversations `duplex serve` holds: latency, CPU, memory, and the event loop's delay.

    python benchmarks/server_load.py [--model tiny|stand-in|7b] [--sessions 8 16 20] [--fronts 1 2] [--seconds 60]

The server is a process of its own, and so is the crowd of callers (``server_crowd.py``). Latency is from the moment
that a page with a whole frame is sent to that of the page with its answer. `stand-in` is a model that costs nothing,
to show what the server itself costs; `7b` has Moshi's size and random weights in 8 bits, on a CUDA GPU. CPU and memory
are of all the server's processes; with several fronts those of each are told, and by thread those of the model's
process.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any, cast

import anyio
import psutil
import torch
from rich.console import Console
from rich.table import Table

import duplex
from duplex.errors import DuplexError
from duplex.server import Listening, Settings, serve
from server_crowd import crowd
from stand_in import stand_in

FAST = {"use_uvloop": True}
"""The same event loop for the server and its callers as `duplex serve` has."""


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny", help="tiny, stand-in, 7b, or whatever duplex.load takes")
    parser.add_argument("--sessions", type=int, nargs="+", default=[8, 16, 20])
    parser.add_argument("--fronts", type=int, nargs="+", default=[1])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, help="of the model; default: torch's own")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--as-server", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--as-crowd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_server(arguments: argparse.Namespace) -> None:
    """Be the server."""
    sessions = arguments.as_server
    if arguments.model == "stand-in":
        model = stand_in(sessions)
    elif arguments.model == "7b":
        from cuda_frame import seven_billion  # noqa: PLC0415 -- needs a GPU

        model = seven_billion(sessions)
    else:
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        model = duplex.load(arguments.model, sessions=sessions)
    with model:
        anyio.run(serve_and_tell, model, arguments.fronts[0], backend_options=FAST)


async def serve_and_tell(model: duplex.Model, fronts: int) -> None:
    """Print the port, and in the end the seconds of CPU that each kind of thread took meanwhile."""
    used: dict[str, float] = {}
    before = by_thread()

    async def watch() -> None:
        while True:
            await anyio.sleep(1)
            used.update({name: seconds - before.get(name, 0.0) for name, seconds in by_thread().items()})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        where = Listening(port=0, fronts=fronts)
        await serve(model, Settings(queue=0), where, started=lambda port: print(port, flush=True))
        tasks.cancel_scope.cancel()
    print(json.dumps(used), flush=True)


def by_thread() -> dict[str, float]:
    """Return the seconds of CPU of this process's threads; those whose names differ in a number are one."""
    names = {thread.native_id: thread.name.rstrip("-0123456789") for thread in threading.enumerate()}
    found: dict[str, float] = {}
    for thread in psutil.Process().threads():
        name = names.get(thread.id, "libraries")
        found[name] = found.get(name, 0.0) + thread.user_time + thread.system_time
    return found


def watched(process: psutil.Process, callers: "subprocess.Popen[str]") -> dict[str, Any]:
    """Return the CPU seconds and memory of the server's processes, the model's first, while the callers talk."""
    processes = [process, *process.children()]
    began, before = time.perf_counter(), cpu_seconds(processes)
    memory: list[list[int]] = []
    while callers.poll() is None:
        memory.append([each.memory_info().rss for each in processes])
        time.sleep(1)
    seconds = time.perf_counter() - began
    used = [after - early for after, early in zip(cpu_seconds(processes), before, strict=True)]
    early = memory[min(len(memory) - 1, 10)]
    return {
        "cpu": sum(used) / seconds,
        "cpu_seconds": used,
        "memory": sum(memory[-1]) / 2**20,
        "memories": [bytes_ / 2**20 for bytes_ in memory[-1]],
        "growth": (sum(memory[-1]) - sum(early)) / 2**20,
    }


def cpu_seconds(processes: list[psutil.Process]) -> list[float]:
    """Return the seconds of CPU that each process has taken."""
    return [sum(each.cpu_times()[:2]) for each in processes]


def histogram(text: str, name: str, share: float, **labels: str) -> float:
    """Return an upper bound of a share of a Prometheus histogram."""
    wanted = "".join(f'{key}="{value}"' for key, value in labels.items())
    buckets: list[tuple[float, float]] = []
    for line in text.splitlines():
        if line.startswith(f"{name}_bucket") and wanted in line:
            edge = line.split('le="')[1].split('"')[0]
            buckets.append((float(edge), float(line.rsplit(" ", 1)[1])))
    total = buckets[-1][1]
    return next((edge for edge, count in buckets if count >= share * total), float("inf")) if total else 0.0


def total(text: str, name: str, **labels: str) -> float:
    """Return a figure of Prometheus', with these labels if it has some; that of all models together."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(label in line for label in wanted))


def mean(text: str, name: str, **labels: str) -> float:
    """Return the mean of a Prometheus histogram."""
    return total(text, f"{name}_sum", **labels) / max(1.0, total(text, f"{name}_count", **labels))


def measure(arguments: argparse.Namespace, sessions: int, fronts: int) -> dict[str, Any]:
    """Return the figures of one number of conversations and fronts."""
    options = ["--model", arguments.model, "--seconds", str(arguments.seconds), "--fronts", str(fronts)]
    if arguments.threads:
        options += ["--threads", str(arguments.threads)]
    me = [sys.executable, __file__, *options]
    server = subprocess.Popen([*me, "--as-server", str(sessions)], stdout=subprocess.PIPE, text=True)
    try:
        port = int(_output(server).readline())
        time.sleep(0.5)
        command = [*me, "--as-crowd", str(sessions), "--port", str(port)]
        callers = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        figures = watched(psutil.Process(server.pid), callers)
        told = json.loads(_output(callers).read())
        text = metrics(port)
    finally:
        server.terminate()
        used = _output(server).read()
        server.wait()
    frames = total(text, "duplex_frame_latency_seconds_count")
    return {
        "sessions": sessions,
        "fronts": fronts,
        "load": os.getloadavg()[0],
        **told,
        **figures,
        "processes": [1e6 * seconds / frames for seconds in figures["cpu_seconds"]],
        "microseconds_a_frame": {name: 1e6 * seconds / frames for name, seconds in json.loads(used).items()},
        "loop_p99": 1000 * histogram(text, "duplex_event_loop_delay_seconds", 0.99),
        "step": 1000 * mean(text, "duplex_step_seconds"),
        "encode": 1000 * mean(text, "duplex_stage_seconds", stage="encode"),
        "decode": 1000 * mean(text, "duplex_stage_seconds", stage="decode"),
    }


def metrics(port: int) -> str:
    """Return what the server tells Prometheus."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def _output(process: "subprocess.Popen[str]") -> IO[str]:
    return cast("IO[str]", process.stdout)


def row(found: dict[str, Any]) -> Iterator[str]:
    """Yield a row of the table."""
    yield f"{found['sessions']}, {found['fronts']}"
    yield " / ".join(f"{value:.0f}" for value in found["latency"].values())
    yield f"{found['dropped_seconds']:.2f}"
    yield f"{100 * found['cpu']:.0f} %, {100 * found['cpu'] / found['sessions']:.1f} %"
    yield f"{' + '.join(f'{each:.0f}' for each in found['memories'])}, {found['growth']:+.1f}"
    yield f"< {found['loop_p99']:.0f}"
    yield " + ".join(f"{each:.0f}" for each in found["processes"])
    yield "\n".join(f"{name} {used:.0f}" for name, used in found["microseconds_a_frame"].items() if used >= 1)
    yield f"{found['step']:.1f} / {found['encode']:.1f} / {found['decode']:.1f}"


def main() -> None:
    """Measure and print, or be one of the two processes."""
    arguments = parse()
    if arguments.as_server:
        run_server(arguments)
        return
    if arguments.as_crowd:
        told = anyio.run(
            crowd, "127.0.0.1", arguments.port, arguments.as_crowd, arguments.seconds, backend_options=FAST
        )
        print(json.dumps(told))
        return
    table = Table(title=f"{arguments.model}, {arguments.seconds:g} s, {os.cpu_count()} cores")
    for name in (
        "sessions, fronts",
        "latency 50/95/99 %, ms",
        "dropped, s",
        "CPU, each",
        "MiB by process, growth",
        "loop delay 99 %, ms",
        "CPU µs a frame, by process",
        "model's, by thread",
        "step/encode/decode, ms",
    ):
        table.add_column(name)
    found = []
    for sessions, fronts in itertools.product(arguments.sessions, arguments.fronts):
        try:
            found.append(measure(arguments, sessions, fronts))
        except (DuplexError, ValueError) as error:
            Console(stderr=True).print(f"{sessions} sessions: {error}")
            continue
        table.add_row(*row(found[-1]))
        if arguments.out:
            arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
