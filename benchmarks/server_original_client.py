"""Have the original's own Python client talk to `duplex serve`, and a plain websocket client after it.

    python benchmarks/server_original_client.py --original PYTHON [--recording examples/question.wav]

PYTHON is an interpreter that has the original's package `moshi`. Its `Connection` runs as it is, with its websocket,
its Ogg Opus and its printer; only the sound card is one that plays a recording and keeps what it is given.
"""

import argparse
import json
import queue
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from anyio.from_thread import start_blocking_portal
from rich.console import Console
from rich.table import Table

import duplex
from duplex.server import Listening, serve

EXAMPLE = Path(__file__).parents[1] / "examples" / "question.wav"
SECONDS = 9.0
ORIGINAL = '''
import asyncio, json, sys, threading, time, types
import aiohttp, numpy as np, wave

url, recording, seconds, out = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
with wave.open(recording) as file:
    spoken = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
heard = []

class Stream:
    """A sound card's stream, at the pace of a clock."""
    def __init__(self, samplerate, channels, blocksize, callback):
        self.size, self.callback, self.seconds = blocksize, callback, blocksize / samplerate
        self.over = threading.Event()
    def __enter__(self):
        threading.Thread(target=self.run, daemon=True).start()
    def __exit__(self, *_):
        self.over.set()
    def run(self):
        began, count = time.monotonic(), 0
        while not self.over.is_set():
            self.block(count)
            count += 1
            time.sleep(max(0, began + count * self.seconds - time.monotonic()))

class InputStream(Stream):
    def block(self, count):
        piece = spoken[count * self.size : (count + 1) * self.size]
        self.callback(np.pad(piece, (0, self.size - len(piece)))[:, None], self.size, None, None)

class OutputStream(Stream):
    def block(self, count):
        piece = np.zeros((self.size, 1), np.float32)
        self.callback(piece, self.size, None, None)
        heard.append(piece[:, 0].copy())

sys.modules["sounddevice"] = types.SimpleNamespace(InputStream=InputStream, OutputStream=OutputStream)
from moshi.client import Connection

class Printer:
    """Keeps what the client would print."""
    words, logged = [], []
    def print_token(self, token): self.words.append(token)
    def log(self, level, text): self.logged.append(f"{level}: {text}")
    def print_pending(self): pass
    def print_lag(self): pass
    def print_header(self): pass

async def main():
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as websocket:
        connection = Connection(Printer(), websocket, event_loop=asyncio.get_event_loop())
        try:
            await asyncio.wait_for(connection.run(), seconds)
        except asyncio.TimeoutError:
            pass

asyncio.run(main())
sound = np.concatenate(heard)
np.save(out, sound)
print(json.dumps({"words": "".join(Printer.words), "logged": Printer.logged}))
'''


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--original", required=True, metavar="PYTHON")
    parser.add_argument("--recording", type=Path, default=EXAMPLE)
    return parser.parse_args()


def original(python: str, port: int, recording: Path) -> tuple[str, float, list[str]]:
    """Return the words that the original's client gets, its sound's loudest sample, and what it complains of."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "heard.npy"
        url = f"ws://127.0.0.1:{port}/api/chat"
        done = subprocess.run(
            [python, "-c", ORIGINAL, url, str(recording), str(SECONDS), str(out)],
            check=True,
            capture_output=True,
            text=True,
        )
        told = json.loads(done.stdout.splitlines()[-1])
        return told["words"], float(np.abs(np.load(out)).max()), told["logged"]


async def ours(url: str, recording: Path) -> tuple[str, float]:
    """Return the same of our client."""
    words: list[str] = []
    loudest = 0.0
    async with duplex.connect(url, duplex.FileTransport(recording)) as conversation:
        async for event in conversation:
            match event:
                case duplex.AgentText(text=piece):
                    words.append(piece)
                case duplex.AgentAudio(pcm=pcm):
                    loudest = max(loudest, float(np.abs(pcm).max()))
                case _:
                    pass
    return "".join(words), loudest


def main() -> None:
    """Compare and print."""
    arguments = parse()
    ports: queue.Queue[int] = queue.Queue()
    started: Callable[[int], Any] = ports.put
    table = Table("client", "words", "loudest sample", "complaints")
    with duplex.load("tiny") as model, start_blocking_portal("asyncio") as portal:
        server = portal.start_task_soon(lambda: serve(model, None, Listening(port=0), started=started))
        port = ports.get(timeout=30)
        words, loudest, logged = original(arguments.original, port, arguments.recording)
        table.add_row("the original's", words, f"{loudest:.2f}", "; ".join(logged) or "none")
        words, loudest = anyio.run(ours, f"http://127.0.0.1:{port}", arguments.recording)
        table.add_row("duplex.connect", words, f"{loudest:.2f}", "none")
        server.cancel()
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
