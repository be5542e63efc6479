"""From mouth to ear: this project's client against the original's, in the same room.

    python benchmarks/microphone_against.py --original PYTHON --runs 5

It starts a PulseAudio with a room of one clock, in which `duplex talk --server` and the original's own client call the
same `duplex serve` by turns. PYTHON is an interpreter with the original's package `moshi` (torch is not needed),
sounddevice, sphn and aiohttp.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import numpy as np

from microphone_room import RATE, OneClock, Samples, first_sound, last_sound, place, read, torn

MODEL_RATE = 24000
BEFORE, AFTER = 3.0, 5.0
"""Seconds of silence before the question, so that clocks settle, and after it, for the answer."""
ORIGINAL = """
import sys, types, importlib.util
package = types.ModuleType("moshi")  # without its __init__, which imports torch
package.__path__ = list(importlib.util.find_spec("moshi").submodule_search_locations)
sys.modules["moshi"] = package
from moshi.client import main
main()
"""


@contextmanager
def running_server() -> Generator[str]:
    """Serve the built-in model; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "duplex", "serve", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def ask(command: Sequence[str], room: OneClock, question: Samples) -> tuple[float | None, float]:
    """Ask a client's program once; return seconds to the answer's first sample, and how many had no sound in it."""
    environment = {**os.environ, **room.environment}
    with room.heard() as recording:
        client = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(BEFORE + 3)  # the program starts, too
            with room.speaking(room.at_its_rate(question, MODEL_RATE)):
                time.sleep(question.size / MODEL_RATE + AFTER)
        finally:
            client.terminate()
            client.wait()
    spoken, played = recording.channels
    wide = room.at_its_rate(question, MODEL_RATE)
    end = place(wide, spoken) + last_sound(wide)
    answered = first_sound(played, end, RATE)
    return (None, 0.0) if answered is None else ((answered - end) / RATE, torn(played[answered : answered + 2 * RATE]))


def against(room: OneClock, question: Samples, original: str, runs: int) -> None:
    """Print the times of this project's client and of the original's, by turns."""
    with running_server() as url:
        port = url.rsplit(":", 1)[1]
        commands = {
            "duplex talk --server": [sys.executable, "-m", "duplex", "talk", "--server", url],
            "the original's client": [original, "-c", ORIGINAL, "--port", port, "--host", "127.0.0.1"],
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(runs):
            for name, command in commands.items():
                seconds, silent = ask(command, room, question)
                print(f"run {number}, {name}: {seconds}, torn {silent:.3f}", file=sys.stderr, flush=True)
                found[name] += [] if seconds is None else [(seconds, silent)]
    print("| client | answers | median | worst | zeros in the answer's first 2 s, median |\n|---|---|---|---|---|")
    for name, each in found.items():
        seconds, silent = zip(*each, strict=True) if each else ((float("nan"),), (float("nan"),))
        print(
            f"| {name} | {len(each)} of {runs} | {1000 * np.median(seconds):.0f} ms | {1000 * max(seconds):.0f} ms | "
            f"{1000 * np.median(silent):.0f} ms |"
        )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", metavar="PYTHON", required=True)
    parser.add_argument("--question", default=str(Path(__file__).parents[1] / "examples" / "question.wav"))
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    question = anyio.run(read, arguments.question, MODEL_RATE)
    with tempfile.TemporaryDirectory() as folder:
        room = OneClock(Path(folder))
        os.environ.update({name: value for name, value in room.environment.items() if name != "HOME"})
        room.start()
        try:
            against(room, question, arguments.original, arguments.runs)
        finally:
            room.kill()


if __name__ == "__main__":
    main()
