"""Transcribe recordings with duplex and with the original `moshi` package, on the same weights, in one run.

    python benchmarks/transcribe.py --original PYTHON --checkpoint DIR [--files 1 8] [--seconds 8] [--rounds 3]
        [--threads 1]

PYTHON is the interpreter of an environment in which the original `moshi` package is installed; DIR is a recognition
model, such as `random_model.py --shape 300m --kind stt` makes. The two take turns, each time in a new process, and
medians are printed. `real time` is the audio's seconds over those that transcribing it took, `CPU` the processor's
seconds: what the clock would show for one thread on a machine with nothing else to do. Memory is the most that the
process held. The original transcribes one file at a time, so several are one after another there.
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from rich.console import Console
from rich.table import Table

from duplex.checkpoints import checkpoint

WORKER = Path(__file__).with_name("transcribe_worker.py")
RATE = 24000
PACKAGES = ("duplex", "original")


@attrs.frozen
class Round:
    """What one process took: seconds, and MB."""

    loading: float
    clock: float
    processor: float
    memory: float
    texts: list[str]


def recording(path: Path, seconds: float, seed: int) -> str:
    """Write noise whose loudness changes, which random weights take for as much as speech; return its path."""
    random = np.random.default_rng(seed)
    loudness = np.repeat(random.uniform(0, 0.4, int(seconds * 4) + 1), RATE // 4)[: int(seconds * RATE)]
    pcm = loudness * random.uniform(-1, 1, len(loudness))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((pcm * 32767).astype("<i2").tobytes())
    return str(path)


def run(package: str, python: str, given: dict[str, Any], threads: int) -> Round:
    """Transcribe in a process of its own."""
    environment = os.environ | {"NO_TORCH_COMPILE": "1", "OMP_NUM_THREADS": str(threads)}
    arguments = [python, str(WORKER), package, json.dumps(given)]
    with tempfile.TemporaryFile() as out:
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
        child = os.posix_spawn(python, arguments, environment, file_actions=actions)
        _, status, usage = os.wait4(child, 0)  # the memory of this child alone
        if status:
            raise SystemExit(f"{package} failed in {python}")
        out.seek(0)
        told = json.loads(out.read())
    took = told["transcribing"]
    return Round(told["loading"]["clock"], took["clock"], took["processor"], usage.ru_maxrss / 1024, told["texts"])


def same(ours: list[str], theirs: list[str]) -> int:
    """Return in how many files our text is in the original's.

    That begins before the first words can have been recognised, and ends a second of silence later. Letters of ASCII
    are compared: random weights spell others in bytes, anywhere.
    """
    texts = [[re.sub("[^A-Za-z]", "", text) for text in pair] for pair in zip(ours, theirs, strict=True)]
    return sum(bool(our) and our in their for our, their in texts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--original", required=True, metavar="PYTHON")
    parser.add_argument("--checkpoint", required=True, metavar="DIR")
    parser.add_argument("--files", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each recording")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    codec = attrs.asdict(checkpoint.resolve(arguments.checkpoint).mimi)
    pythons = {"duplex": sys.executable, "original": arguments.original}
    title = f"{arguments.seconds:g} s a file, {arguments.threads} thread(s), medians of {arguments.rounds}"
    table = Table("files", "", "loading, s", "transcribing, s", "real time", "CPU, s", "memory, MB", title=title)
    for files in arguments.files:
        rounds: dict[str, list[Round]] = {package: [] for package in PACKAGES}
        with tempfile.TemporaryDirectory() as folder:
            paths = [recording(Path(folder) / f"{n}.wav", arguments.seconds, n) for n in range(files)]
            given = {"folder": arguments.checkpoint, "codec": codec, "files": paths}
            for _ in range(arguments.rounds):
                for package, python in pythons.items():
                    rounds[package].append(run(package, python, given, arguments.threads))
        for package, every in rounds.items():
            loading, clock, processor, memory = (
                statistics.median(getattr(each, name) for each in every)
                for name in ("loading", "clock", "processor", "memory")
            )
            figures = (f"{loading:.2f}", f"{clock:.2f}", f"{files * arguments.seconds / clock:.1f}x")
            table.add_row(str(files), package, *figures, f"{processor:.2f}", f"{memory:.0f}")
        agreed = same(rounds["duplex"][0].texts, rounds["original"][0].texts)
        table.add_row("", f"same text: {agreed} of {files}")
    Console(width=110).print(table)
    Console().print("load of the machine: {:.1f} {:.1f} {:.1f}".format(*os.getloadavg()))


if __name__ == "__main__":
    main()
