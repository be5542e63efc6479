"""Time whole frames of conversations: encode, temporal and depth transformer, decode; on one core, and side by side.

    python benchmarks/conversation_speed.py [--model tiny|DIR] [--seconds 120] [--sessions 1 2 4 8 16 24 32]

Every session hears examples/question.wav over and over, and is past its context for most of the time. Each number of
sessions runs on one core (as a small model does by itself) and on all. They keep real time's pace if the slowest
hundredth of the steps is faster than a frame lasts.
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

from against_reference import load
from duplex.frame_model import SessionOptions
from duplex.transports.decoding import Decoder

SPEECH = Path(__file__).parent.parent / "examples" / "question.wav"
FRAME_MS = 80.0
OPTIONS = SessionOptions(temperature=0.8, text_temperature=0.7, top_k=250, text_top_k=25, seed=0, greedy=False)


def speech(seconds: float, size: int) -> np.ndarray:
    """Return the example again and again, float32 ``[frames, frame_size]``."""
    decoder = Decoder(SPEECH, 24000, "mix")
    pieces = []
    while (piece := decoder.read()) is not None:
        pieces.append(piece)
    decoder.close()
    frames = round(seconds * 24000 / size)
    return np.resize(np.concatenate(pieces), frames * size).reshape(frames, size)


def measure(folder: str, sessions: int, threads: int, seconds: float) -> np.ndarray:
    """Return the milliseconds of each step."""
    model = load(folder, sessions)
    pcm = speech(seconds, model.spec.frame_size)
    for slot in range(sessions):
        model.open(slot, OPTIONS)
    torch.set_num_threads(threads)  # opening a slot of a small model sets it to one
    active, found = np.ones(sessions, np.bool_), np.zeros(len(pcm))
    for index in range(len(pcm)):
        heard = np.stack([pcm[(index + 13 * slot) % len(pcm)] for slot in range(sessions)])
        start = time.perf_counter()
        model.step(heard, active)
        found[index] = 1e3 * (time.perf_counter() - start)
    model.close()
    return found[len(pcm) // 4 :]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny", metavar="tiny|DIR")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 2, 4, 8, 16, 24, 32])
    arguments = parser.parse_args()
    cores = psutil.cpu_count(logical=False) or 1
    table = Table("sessions", "threads", "ms a step, median", "95 %", "99 %", "ms a session", "real time")
    with torch.inference_mode():
        for sessions, threads in itertools.product(arguments.sessions, (1, cores)):
            steps = measure(arguments.model, sessions, threads, arguments.seconds)
            middle, high, highest = (np.percentile(steps, part) for part in (50, 95, 99))
            cells = [f"{value:.1f}" for value in (middle, high, highest, middle / sessions)]
            table.add_row(str(sessions), str(threads), *cells, "yes" if highest < FRAME_MS else "no")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
