"""How fast `duplex score` is, for one dialogue and for several, with the agent's words and without; what an hour takes.

    python benchmarks/scoring.py [--model tiny] [--seconds 60] [--files 8] [--again 3] [--minutes 60]

Dialogues are examples/question.wav on both channels in turn. The model is loaded before: what is timed reads the
recordings, codes both channels, looks for speech on them, scores, and writes. Words are known or left free; free text
goes on one step at a time. Figures are medians of ``--again`` runs, which take turns; seconds of processors depend less
on what else the machine does. With ``--minutes`` a dialogue of that length goes through the command in a process of its
own, whose memory is watched.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import wave
from pathlib import Path

import anyio
import numpy as np
from rich.console import Console
from rich.table import Table

import duplex
from duplex.scoring import ScoreSettings, score_files
from long_recording import SPEECH, watched

WORD = 0.4
"""Seconds from one word of the agent's to the next."""
WORDS = ("yes", "it", "is", "the", "first", "one")
SAMPLE_BYTES = 2


def write_dialogue(path: Path, seconds: float, *, words: bool) -> None:
    """Write both speakers in turn, and what the right one says beside it."""
    with wave.open(str(SPEECH), "rb") as source:
        rate, speech = source.getframerate(), np.frombuffer(source.readframes(source.getnframes()), np.int16)
    silence = np.zeros_like(speech)
    user, agent = np.concatenate([speech, silence]), np.concatenate([silence, speech])
    both, left = np.stack([user, agent], axis=1), round(seconds * rate)
    with wave.open(str(path), "wb") as target:
        target.setnchannels(both.shape[1])
        target.setsampwidth(SAMPLE_BYTES)
        target.setframerate(rate)
        while left > 0:
            target.writeframesraw(both[:left].tobytes())
            left -= len(both)
    if not words:
        return
    turn, chunks = len(speech) / rate, list[dict[str, object]]()
    for index in range(int(seconds / WORD)):
        at = index * WORD
        if at % (2 * turn) >= turn and at + WORD <= seconds:
            chunks.append({"text": WORDS[index % len(WORDS)], "timestamp": [at, at + 0.8 * WORD]})
    path.with_suffix(".json").write_text(json.dumps({"chunks": chunks}))


async def timed(model: duplex.Model, recordings: list[Path], out: Path) -> tuple[float, float]:
    """Return the seconds that it takes to score recordings, and those of processors."""
    start, spent = time.perf_counter(), time.process_time()
    for result in await score_files(model, recordings, out, ScoreSettings(force=True)):
        if result.error is not None:
            raise result.error
    return time.perf_counter() - start, time.process_time() - spent


def speed(model: duplex.Model, folder: Path, arguments: argparse.Namespace) -> Table:
    """Return how many times faster than real time dialogues are scored."""
    kinds: dict[str, list[Path]] = {}
    for kind, words in (("known", True), ("free", False)):
        (folder / kind).mkdir()
        kinds[kind] = [folder / kind / f"{number}.wav" for number in range(arguments.files)]
        for path in kinds[kind]:
            write_dialogue(path, arguments.seconds, words=words)
    rows = {(kind, count): list[tuple[float, float]]() for kind in kinds for count in (1, arguments.files)}
    anyio.run(timed, model, kinds["known"][:1], folder / "warm")
    for _ in range(arguments.again):
        for (kind, count), found in rows.items():
            found.append(anyio.run(timed, model, kinds[kind][:count], folder / f"{kind}-{count}"))
    load = os.getloadavg()[0]
    table = Table(title=f"{model.name}, dialogues of {arguments.seconds:g} s, {arguments.again} runs; load {load:.1f}")
    for name in ("words", "files", "seconds", "times real time", "processor seconds", "times real time"):
        table.add_column(name)
    for (kind, count), found in rows.items():
        figures: list[str] = []
        for values in zip(*found, strict=True):
            median = statistics.median(values)
            figures += [
                f"{median:.2f} ({min(values):.2f} to {max(values):.2f})",
                f"{count * arguments.seconds / median:.1f}",
            ]
        table.add_row(kind, f"{count}", *figures)
    return table


def long(folder: Path, arguments: argparse.Namespace) -> Table:
    """Return time and memory of a long dialogue, in each tenth of the run after the first samples."""
    path = folder / "long.wav"
    write_dialogue(path, arguments.minutes * 60, words=True)
    seconds, samples = watched("score", str(path), "--out", str(folder / "long"), "--model", arguments.model)
    memory = [each for _, each in samples]
    tenths = [max(memory[len(memory) * part // 10 : len(memory) * (part + 1) // 10]) for part in range(10)]
    table = Table(f"{arguments.minutes:g} minutes, a process of its own", "")
    table.add_row("seconds, start included", f"{seconds:.0f} ({arguments.minutes * 60 / seconds:.1f} times real time)")
    table.add_row("peak memory in each tenth of the run, MB", " ".join(f"{each:.0f}" for each in tenths))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--again", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=0, help="of the long dialogue; 0 leaves it out")
    arguments = parser.parse_args()
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.again:
            with duplex.load(arguments.model, sessions=arguments.files) as model:
                console.print(speed(model, folder, arguments))
        if arguments.minutes:
            console.print(long(folder, arguments))


if __name__ == "__main__":
    main()
