"""Hours of recordings through ``duplex measure``: speed, memory, and a run that is killed and goes on.

    python benchmarks/measuring_hours.py FOLDER --hours 100

Files of ten minutes, stereo FLAC at 8 kHz as telephones are recorded, are made of sentences by espeak-ng that are mixed
and shifted, each file by its own numbers; 100 hours take about 4 GB below FOLDER. After a third of them the run is
killed with SIGKILL and started again; with ``--remove`` a recording goes as soon as that second run has passed it.
Needs espeak-ng and psutil.
"""

import argparse
import csv
import json
import multiprocessing
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from numpy.typing import NDArray

RATE = 8000
SECONDS = 600
NOISE_DBFS = -78
NOISE_SECONDS = 60
SENTENCES = (
    "I went to the market this morning and bought some apples.",
    "Did you see what happened over there?",
    "Mm-hm.",
    "Yeah, right.",
    "That is what I was going to say, but then the train came and we had to run for it.",
    "No, wait.",
    "We could meet on Thursday, if you have the time, or else next week.",
    "Okay.",
)
VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+f4")
SHARE_BEFORE_KILL = 1 / 3
BEHIND = 8
"""Dialogues after which the one before them is done with, whichever worker has it."""


def say(sentence: str, voice: str) -> NDArray[np.float32]:
    """Return a sentence at 8 kHz, without the silence around it."""
    command = [shutil.which("espeak-ng") or "espeak-ng", "-v", voice, "--stdout", sentence]
    wav = subprocess.run(command, capture_output=True, check=True).stdout
    (rate,) = struct.unpack("<I", wav[24:28])
    pcm = (np.frombuffer(wav[44:], "<i2") / 32768).astype(np.float32)
    loud = np.flatnonzero(np.abs(pcm) > 0.01)
    pcm = pcm[loud[0] : loud[-1] + 1]
    return np.interp(np.arange(0, len(pcm), rate / RATE), np.arange(len(pcm)), pcm).astype(np.float32)


@cache
def bank() -> dict[str, list[NDArray[np.float32]]]:
    """Return all sentences in all voices, made once a process."""
    return {voice: [say(sentence, voice) for sentence in SENTENCES] for voice in VOICES}


@cache
def noise() -> NDArray[np.float32]:
    """Return a minute of noise on two channels, which each file has from another place on."""
    shape = (NOISE_SECONDS * RATE, 2)
    return np.random.default_rng(0).normal(0, 10 ** (NOISE_DBFS / 20), shape).astype(np.float32)


def make(path: Path, seed: int) -> None:
    """Write a dialogue: two voices, with gaps and overlaps between their sentences."""
    rng = np.random.default_rng(seed)
    sound = np.tile(np.roll(noise(), int(rng.integers(len(noise()))), axis=0), (SECONDS // NOISE_SECONDS, 1))
    voices = [VOICES[int(index)] for index in rng.choice(len(VOICES), 2, replace=False)]
    at, side = rng.uniform(0, 3), 0
    while at < SECONDS - 10:
        pcm = bank()[voices[side]][int(rng.integers(len(SENTENCES)))]
        start = round(at * RATE)
        sound[start : start + len(pcm), side] += pcm * rng.uniform(0.3, 0.9)
        at = max(at + len(pcm) / RATE + rng.normal(0.2, 0.5), at + 0.2)
        side = int(rng.random() < 0.7) ^ side
    samples = np.clip(np.rint(sound * 32767), -32768, 32767).astype(np.int16).reshape(1, -1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("flac", rate=RATE, layout="stereo", options={"compression_level": "1"})
        for first in range(0, samples.shape[1], 2 * 4096):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[:, first : first + 2 * 4096]), format="s16", layout="stereo"
            )
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def watched(command: list[str], stop: Callable[[], bool]) -> tuple[float, float, list[float]]:
    """Run a command; return its seconds, its processor seconds, and the memory of all its processes each second.

    It is killed as soon as ``stop`` is true.
    """
    began, memory, spent = time.monotonic(), list[float](), dict[int, float]()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        every = [process, *process.children(recursive=True)]
        total = 0.0
        for each in every:
            try:
                total += each.memory_info().rss
                spent[each.pid] = sum(each.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
        memory.append(total / 2**20)
        if stop():
            process.kill()
        time.sleep(1)
    return time.monotonic() - began, sum(spent.values()), memory


def remove_passed(calls: Path, out: Path, finished: set[str]) -> None:
    """Remove recordings that the second run has passed; it takes them in the order of their names."""
    fresh = sorted(path.stem.removesuffix(".flac") for path in out.glob("*.json") if path.name not in finished)
    for path in calls.glob("*.flac"):
        if len(fresh) > BEHIND and path.stem < fresh[-BEHIND]:
            path.unlink()


def main() -> None:
    """Make the recordings, measure them in two runs, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hours", type=float, default=100)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--remove", action="store_true", help="remove recordings that are measured")
    given = parser.parse_args()
    calls, out = given.folder / "calls", given.folder / "measures"
    calls.mkdir(parents=True, exist_ok=True)
    count = round(given.hours * 3600 / SECONDS)
    wanted = [(calls / f"{number:05}.flac", number) for number in range(count)]
    with multiprocessing.Pool(given.jobs) as pool:
        pool.starmap(make, [(path, seed) for path, seed in wanted if not path.exists()], chunksize=4)
    size = sum(path.stat().st_size for path, _ in wanted)
    print(f"{count} files of {SECONDS / 60:.0f} min, {size / 1e9:.1f} GB; load {os.getloadavg()[0]:.1f}")
    command = [sys.executable, "-m", "duplex", "measure", str(calls), "--out", str(out), "--jobs", str(given.jobs)]
    enough = int(count * SHARE_BEFORE_KILL)
    runs = [watched(command, lambda: len(list(out.glob("*.json"))) >= enough)]
    done = {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
    for path in done:
        json.loads(path.read_text())

    def go_on() -> bool:
        if given.remove:
            remove_passed(calls, out, {path.name for path in done})
        return False

    runs.append(watched(command, go_on))
    again = sum(path.stat().st_mtime_ns != written for path, written in done.items())
    with (out / "dialogues.csv").open() as file:
        rows = [row["name"] for row in csv.DictReader(file)]
    print(f"killed after {len(done)}; of these {again} measured again; {len(rows)} rows, {len(set(rows))} names")
    wall, cpu = sum(run[0] for run in runs), sum(run[1] for run in runs)
    load = os.getloadavg()[0]
    print(f"{wall:.0f} s, {count * SECONDS / wall:.0f} times real time with {given.jobs} jobs; load {load:.1f}")
    print(f"{cpu:.0f} s of processors, {count * SECONDS / cpu:.0f} times real time for each of them")
    memory = runs[1][2]
    tenths = [max(memory[len(memory) * part // 10 : len(memory) * (part + 1) // 10]) for part in range(10)]
    print(f"peak memory in each tenth of the second run, MiB: {' '.join(f'{each:.0f}' for each in tenths)}")


if __name__ == "__main__":
    main()
