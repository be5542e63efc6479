"""Show that callers of `duplex serve` never hear each other: each gets, among others, exactly what it gets alone.

    python benchmarks/server_isolation.py [--model DIR] [--sessions 16] [--seconds 20]

A real server with `--deterministic`. Every caller sends noise of its own in 16-bit samples at the pace of a clock, with
a seed of its own, first all at once, then each by itself, and keeps every word and every sample of the answer. A caller
whose audio the server skipped or made up, because this machine was too slow, proves nothing and is counted as such.
"""

import argparse
import contextlib
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import anyio
import attrs
import numpy as np
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect

from duplex.transports import wire

SMALL = Path(__file__).parents[1] / "tests" / "data" / "reference" / "small"
FRAME, SECONDS = 1920, 0.08


@attrs.frozen
class Answer:
    """What one caller was given."""

    words: tuple[tuple[float, str], ...]
    """Each with its time on the session's clock."""
    sound: str
    """A digest of all samples."""
    frames: int
    disturbed: bool
    """Whether the server skipped or made up audio."""


@contextlib.contextmanager
def server(model: str, sessions: int) -> Iterator[str]:
    """Run a server of its own and give its address."""
    options = ["--model", model, "--sessions", str(sessions), "--deterministic", "--port", "0", "--queue", "0"]
    process = subprocess.Popen([sys.executable, "-m", "duplex", "serve", *options], stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        for line in cast("IO[str]", process.stderr):
            said += line
            if port := re.search(r" listens at .*:(\d+)\s*$", line):
                yield f"ws://127.0.0.1:{port.group(1)}"
                return
        sys.exit(said)
    finally:
        process.terminate()
        process.communicate()


async def call(url: str, number: int, seconds: float) -> Answer:
    """Hold one conversation."""
    random = np.random.default_rng(number)
    sent = (random.standard_normal((round(seconds / SECONDS), FRAME)) * 3000).astype("<i2")
    query = f"format=pcm&events=full&seed={number}&temperature=0.8&text_temperature=0.7"
    words, lost, frames, sound = list[tuple[float, str]](), False, 0, hashlib.sha256()
    async with connect(f"{url}/api/chat?{query}", compression=None) as websocket:
        while (await websocket.recv())[0] != wire.Kind.HANDSHAKE:
            pass

        async def speak() -> None:
            began = time.perf_counter()
            for index, frame in enumerate(sent):
                await anyio.sleep(max(0.0, began + index * SECONDS - time.perf_counter()))
                await websocket.send(wire.audio(frame.tobytes()))
            await websocket.send(wire.metadata({"type": "Finish"}))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(speak)
            async for data in websocket:
                if data[0] == wire.Kind.AUDIO:
                    sound.update(data[1:])
                    frames += len(data) // (2 * FRAME)
                elif data[0] == wire.Kind.METADATA:
                    event = json.loads(data[1:])
                    lost = lost or event["type"] == "Lag"
                    if event["type"] == "AgentText":
                        words.append((event["at"], event["text"]))
    return Answer(tuple(words), sound.hexdigest(), frames, lost or frames != len(sent))


async def everybody(url: str, sessions: int, seconds: float) -> list[Answer]:
    """Hold all conversations at once."""
    answers: dict[int, Answer] = {}

    async def one(number: int) -> None:
        answers[number] = await call(url, number, seconds)

    async with anyio.create_task_group() as tasks:
        for number in range(sessions):
            tasks.start_soon(one, number)
            await anyio.sleep(SECONDS / sessions)
    return [answers[number] for number in range(sessions)]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=str(SMALL), help="default: the small one of the tests")
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    with server(arguments.model, arguments.sessions) as url:
        together = anyio.run(everybody, url, arguments.sessions, arguments.seconds)
        alone = [anyio.run(call, url, number, arguments.seconds) for number in range(arguments.sessions)]
    pairs = [(a, b) for a, b in zip(together, alone, strict=True) if not (a.disturbed or b.disturbed)]
    table = Table(
        "sessions", "undisturbed", "same words", "same samples", "different from each other", "words", "frames"
    )
    table.add_row(
        str(arguments.sessions),
        str(len(pairs)),
        str(sum(a.words == b.words for a, b in pairs)),
        str(sum(a.sound == b.sound for a, b in pairs)),
        str(len({a.sound for a, _ in pairs})),
        str(sum(len(a.words) for a, _ in pairs)),
        str(sum(a.frames for a, _ in pairs)),
    )
    Console(width=110).print(table)
    sys.exit(any(a != b for a, b in pairs) or not pairs)


if __name__ == "__main__":
    main()
