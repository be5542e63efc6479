"""Time from opening a conversation to its first frame with a persona, and what its neighbours notice of it.

    python benchmarks/random_model.py --out DIR --shape 300m --kind personaplex --codec published --branches 0.18
    python benchmarks/prompts.py DIR [--device auto] [--dtype auto] [--quantize int8] [--seconds 4] [--tokens 40]
        [--neighbours 7] [--repeats 7]

A voice of so many seconds (a recording) and instructions of so many tokens, the first time, when the voice is encoded
and the prompt computed, and the second, when both are taken over. Neighbours are fed in real time, a frame every 80 ms,
as far as the machine follows. Machines are shared: each row is a median over ``--repeats`` rounds, and every round
measures all rows.
"""

import argparse
import os
import tempfile
import threading
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import anyio
import attrs
import numpy as np

import duplex

ROWS = ("without a persona", "first time", "second time")


@attrs.define
class Steps:
    """Collects how long the model's steps take, in seconds."""

    took: list[float] = attrs.Factory(list[float])

    def stepped(self, began: float, ended: float, frames: Sequence[Any]) -> None:
        """Take the times of a step for ``frames``."""
        if len(frames) > 1:
            self.took.append(ended - began)

    def percentiles(self) -> str:
        """Return the median and 99 %, in milliseconds."""
        return " | ".join(f"{np.percentile(self.took, share) * 1000:.0f}" for share in (50, 99))


class Neighbours:
    """Conversations that are fed in real time by a thread of their own."""

    def __init__(self, model: duplex.Model, count: int) -> None:
        options = duplex.SessionOptions(seed=1).with_defaults(model.defaults)
        self._seats = [model.engine.open(options, realtime=True, notify=lambda: None) for _ in range(count)]
        self._frame = np.random.default_rng(0).normal(0, 0.05, model.spec.frame_size).astype(np.float32)
        self._duration = model.spec.frame_duration
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed)

    def __enter__(self) -> Self:
        self._thread.start()
        time.sleep(2.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for seat in self._seats:
            seat.close()

    def _feed(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due += self._duration
            for seat in self._seats:
                seat.push(self._frame)
                seat.take()


async def first_frame(model: duplex.Model, options: duplex.SessionOptions) -> float:
    """Return the seconds from opening a conversation, with audio at hand, to the agent's first frame."""
    began = time.perf_counter()
    async with duplex.Conversation(model, options=options) as conversation:
        async for event in conversation.run(np.zeros(model.spec.frame_size, np.float32)):
            if isinstance(event, duplex.AgentAudio):
                return time.perf_counter() - began
    raise SystemExit("the conversation ended without a frame")


def measure(model: duplex.Model, persona: duplex.SessionOptions, neighbours: int, repeats: int) -> None:
    """Print the rows of so many neighbours."""
    found: dict[str, list[float]] = {name: [] for name in ROWS}
    steps = {name: Steps() for name in ROWS}
    before = Steps()
    with Neighbours(model, neighbours):
        with model.engine.observed(before):
            time.sleep(3.0 * repeats * bool(neighbours))
        for _ in range(repeats):
            model.engine._beginnings._kept.clear()
            model.voice_codes._kept.clear()
            for name in ROWS:
                options = duplex.SessionOptions() if name == ROWS[0] else persona
                with model.engine.observed(steps[name]):
                    found[name].append(anyio.run(first_frame, model, options))
                time.sleep(0.3)
    if neighbours:
        print(f"| {neighbours} neighbours, nobody opens | | | | {before.percentiles()} |")
    where = f"beside {neighbours}" if neighbours else "alone"
    for name in ROWS:
        times = np.array(found[name]) * 1000
        first = f"{np.median(times):.0f} | {times.min():.0f} to {times.max():.0f}"
        beside = f"{len(steps[name].took) / repeats:.0f} | {steps[name].percentiles()}" if neighbours else "| |"
        print(f"| {where}, {name} | {first} | {beside} |", flush=True)


def write_voice(path: Path, seconds: float, rate: int) -> None:
    """Write a recording of noise that comes and goes as syllables do."""
    at = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(2).normal(0, 3000, len(at)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * at))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(noise.astype("<i2").tobytes())


def words_of(model: duplex.Model, tokens: int) -> str:
    """Return instructions of so many tokens, the tags included."""
    words = "the"
    while len(model.tokenizer.encode(f"<system> {words} <system>")) < tokens:
        words += " the"
    return words


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    for option in ("device", "dtype"):
        parser.add_argument(f"--{option}", default="auto")
    parser.add_argument("--quantize")
    parser.add_argument("--seconds", type=float, default=4.0)
    for option, default in (("tokens", 40), ("neighbours", 7), ("repeats", 7)):
        parser.add_argument(f"--{option}", type=int, default=default)
    given = parser.parse_args()
    choice = {"device": given.device, "dtype": given.dtype, "quantize": given.quantize}
    with (
        tempfile.TemporaryDirectory() as folder,
        duplex.load(given.model, sessions=given.neighbours + 1, **choice) as model,
    ):
        voice = Path(folder) / "voice.wav"
        write_voice(voice, given.seconds, model.spec.sample_rate)
        persona = duplex.SessionOptions(instructions=words_of(model, given.tokens), voice=voice)
        print(f"load of the machine: {os.getloadavg()[0]:.1f} at the beginning, on {os.cpu_count()} cores\n")
        print("| | first frame, ms | least to most | neighbours' steps meanwhile | their median, ms | 99 %, ms |")
        print("|---|---|---|---|---|---|")
        for count in (0, given.neighbours):
            measure(model, persona, count, given.repeats)
        print(f"\nload of the machine: {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
