"""Compare the wires of `duplex serve`: one spoken question on each, against a conversation in memory.

    python benchmarks/wires.py [--seconds 10] [--repeat 3]

The server is a process of its own with the built-in model and one place. Of each call it keeps what the model heard and
the tokens that it chose, which must be those of a conversation in memory on the same samples. Latency is from sending
the last sample of a frame to the arrival of the agent's frame for that time. On Realtime only the agent's speech comes:
the slowest are the first frames of a response, which wait until it is known that the agent speaks.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import anyio
import attrs
import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import duplex
from duplex.audio.pcm import to_int16
from duplex.frame_model import Frame
from duplex.server import Listening, Settings, serve
from duplex.server.service import Service
from wires_callers import CALLERS, FRAME_SECONDS, RATE, Heard, Paced, question

Float32 = NDArray[np.float32]
ANSWER = "Paris"
PATIENCE = 20.0


class Keeper:
    """Keeps the frames and events of a call, and writes them when it ends."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._frames: list[Frame] = []
        self._words: list[str] = []
        self._seed, self._lags = 0, 0

    def record(self, frame: Frame) -> None:
        """Take a frame."""
        self._frames.append(frame)

    def describe(self, about: Mapping[str, Any]) -> None:
        """Take what the server writes of a call beside its recording: nothing of it is compared."""

    def record_event(self, event: duplex.Event) -> None:
        """Take an event."""
        match event:
            case duplex.SessionStarted(seed=seed):
                self._seed = seed
            case duplex.AgentText(text=text):
                self._words.append(text)
            case duplex.Lag():
                self._lags += 1
            case _:
                pass

    def kept(self) -> dict[str, Any]:
        """Return it as arrays."""
        return {
            "at": np.array([frame.at for frame in self._frames]),
            "inserted": np.array([frame.inserted for frame in self._frames]),
            "user": np.concatenate([frame.user_pcm for frame in self._frames]),
            "text": np.array([frame.text for frame in self._frames]),
            "agent": np.array([frame.agent for frame in self._frames]),
            "sounds": np.array([to_int16(cast("Float32", frame.agent_pcm)) for frame in self._frames]),
            "level": np.array([np.sqrt(np.mean(np.square(cast("Float32", f.agent_pcm)))) for f in self._frames]),
            "words": "".join(self._words),
            "seed": self._seed,
            "lags": self._lags,
        }

    async def run(self) -> None:
        """Wait for the end, then write."""
        try:
            await anyio.sleep_forever()
        finally:
            if self.path is not None:
                partial = self.path.with_suffix(".partial.npz")
                np.savez(partial, **self.kept())
                partial.rename(self.path)


@attrs.frozen(kw_only=True)
class Figures:
    """One call."""

    answered: bool
    same_words: bool
    same_tokens: bool
    frames: int
    lags: int
    latency: Float32
    """Milliseconds, one a frame."""
    cpu: float
    """Of a core."""
    gaps: int = 0
    """In the agent's speech, where a service plays what it has, of more than 20 ms."""
    deepest: float = 0.0
    """Milliseconds that it held back."""


def be_server(folder: Path) -> None:
    """Serve, keep every call, and print the port."""
    made: list[int] = []

    def recording(*_: object) -> Keeper:
        made.append(len(made))
        return Keeper(folder / f"{made[-1]}.npz")

    cast("Any", Service).recording = recording
    with duplex.load("tiny", sessions=1) as model:
        run = serve(model, Settings(record=folder), Listening(port=0), started=lambda port: print(port, flush=True))
        anyio.run(lambda: run, backend_options={"use_uvloop": True})


def latency(heard: Heard, kept: Mapping[str, Any]) -> Float32:
    """Return the milliseconds from the last sample of each frame to its answer, float32 ``[frames]``.

    Where not all frames come, they are known by their samples. Silence that stood in for a caller was never sent.
    """
    said_at = kept["at"] - FRAME_SECONDS * np.cumsum(kept["inserted"])
    frames = list(range(len(said_at)))
    if heard.sounds:
        places = {sound.tobytes(): n for n, sound in enumerate(kept["sounds"])}
        frames = [places[sound] for sound in heard.sounds]
    pairs: list[tuple[float, float]] = []
    for n, came in zip(frames, heard.arrived, strict=False):
        due = round((float(said_at[n]) + FRAME_SECONDS) / 0.02) - 1
        if not kept["inserted"][n] and due < len(heard.sent):
            pairs.append((heard.sent[due], came))
    return np.array([(came - sent) * 1000 for sent, came in pairs], np.float32)


def playout(heard: Heard, level: Float32) -> tuple[int, float]:
    """Return the gaps in speech, and the most that was held back in milliseconds, where frames are played in a row."""
    end, gaps, deepest = heard.arrived[0], 0, 0.0
    for n, (came, seconds) in enumerate(zip(heard.arrived, heard.seconds, strict=True)):
        speech = 0 < n < len(level) and min(level[n - 1], level[n]) > 0.01
        gaps += speech and came > end + 0.02
        end = max(end, came) + seconds
        deepest = max(deepest, end - came)
    return gaps, deepest * 1000


async def in_memory(model: duplex.Model, pcm: Float32, seed: int) -> Keeper:
    """Return what a conversation in memory makes of samples."""
    keeper = Keeper()
    async with duplex.Conversation(model, options=duplex.SessionOptions(seed=seed), recorder=keeper) as conversation:
        async for event in conversation.run(pcm):
            keeper.record_event(event)
    return keeper


def call(name: str, url: str, pcm: Float32, process: psutil.Process, path: Path) -> tuple[Heard, float, Any]:
    """Hold one call; return what was heard, the server's CPU, and what it kept."""
    began, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
    heard = anyio.run(CALLERS[name], url, pcm)
    used = (sum(process.cpu_times()[:2]) - cpu) / (time.perf_counter() - began)
    while not path.exists():
        if time.perf_counter() > began + len(pcm) / RATE + PATIENCE:
            sys.exit(f"the server kept nothing of the call by {name}")
        time.sleep(0.1)
    return heard, used, dict(np.load(path))


async def baseline(model: duplex.Model, pcm: Float32) -> Figures:
    """Hold the conversation on a live transport in memory."""
    transport, keeper = Paced(pcm), Keeper()
    process = psutil.Process()
    began, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
    options = duplex.SessionOptions(seed=7)
    async with duplex.Conversation(model, transport, options=options, recorder=keeper, audio_events=False) as dialogue:
        async for event in dialogue:
            keeper.record_event(event)
    used = (sum(process.cpu_times()[:2]) - cpu) / (time.perf_counter() - began)
    kept = keeper.kept()
    again = (await in_memory(model, kept["user"], 7)).kept()
    return Figures(
        answered=ANSWER in kept["words"],
        same_words=True,
        same_tokens=same(kept, again),
        frames=len(kept["at"]),
        lags=kept["lags"],
        latency=latency(transport.heard, kept),
        cpu=used,
    )


def same(kept: Mapping[str, Any], again: Mapping[str, Any]) -> bool:
    """Tell whether tokens are the same."""
    count = len(kept["text"])
    return np.array_equal(kept["text"], again["text"][:count]) and np.array_equal(kept["agent"], again["agent"][:count])


def one_round(pcm: Float32) -> dict[str, Figures]:
    """Hold a call on each wire, and one in memory."""
    calls: dict[str, tuple[Heard, float, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--as-server", folder]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            port = int(cast("IO[str]", server.stdout).readline())
            for n, name in enumerate(CALLERS):
                path, process = Path(folder) / f"{n}.npz", psutil.Process(server.pid)
                calls[name] = call(name, f"ws://127.0.0.1:{port}", pcm, process, path)
        finally:
            server.terminate()
            server.wait()
        with duplex.load("tiny", sessions=1) as model:
            found = {"in memory": anyio.run(baseline, model, pcm)}
            for name, (heard, used, kept) in calls.items():
                again = anyio.run(in_memory, model, kept["user"], int(kept["seed"])).kept()
                gaps, deepest = playout(heard, kept["level"]) if heard.seconds else (0, 0.0)
                found[name] = Figures(
                    answered=ANSWER in str(kept["words"]),
                    same_words=heard.words is None or str(kept["words"]).strip().startswith(heard.words.strip()),
                    same_tokens=same(kept, again),
                    frames=len(kept["at"]),
                    lags=int(kept["lags"]),
                    latency=latency(heard, kept),
                    cpu=used,
                    gaps=gaps,
                    deepest=deepest,
                )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--as-server", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_server is not None:
        be_server(arguments.as_server)
        return
    loads, rounds = [os.getloadavg()[0]], list[dict[str, Figures]]()
    for _ in range(arguments.repeat):
        rounds.append(one_round(question(arguments.seconds)))
        loads.append(os.getloadavg()[0])
    table = Table(
        "", "answered", "words", "tokens", "frames", "lags", "median", "99 %", "+median", "+99 %", "CPU", "gaps"
    )
    for name in rounds[0]:
        table.add_row(name, *row([each[name] for each in rounds], [each["in memory"] for each in rounds]))
    Console(width=130).print(table)
    deepest = [f"{each['twilio'].deepest:.0f}" for each in rounds]
    print(f"twilio holds back at most (ms): {', '.join(deepest)}; load {', '.join(f'{each:.1f}' for each in loads)}")


def row(figures: list[Figures], memory: list[Figures]) -> list[str]:
    """Return the columns of one wire: counts over all rounds, medians of them."""

    def middle(values: list[float]) -> float:
        return statistics.median(values)

    shares = [[float(np.percentile(each.latency, share)) for each in figures] for share in (50, 99)]
    bases = [[float(np.percentile(each.latency, share)) for each in memory] for share in (50, 99)]
    added = [middle([a - b for a, b in zip(*each, strict=True)]) for each in zip(shares, bases, strict=True)]
    return [
        *(f"{sum(getattr(each, name) for each in figures)}/{len(figures)}" for name in ("answered", "same_words")),
        f"{sum(each.same_tokens for each in figures)}/{len(figures)}",
        str(sum(each.frames for each in figures)),
        str(sum(each.lags for each in figures)),
        *(f"{middle(each):.0f}" for each in shares),
        *(f"{each:+.0f}" for each in added),
        f"{middle([each.cpu for each in figures]):.2f}",
        str(sum(each.gaps for each in figures)),
    ]


if __name__ == "__main__":
    main()
