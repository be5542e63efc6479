"""Time Mimi frame by frame beside the original package, in one run.

    python benchmarks/mimi_against_original.py --original PYTHON --checkpoint DIR [--rounds 5]

PYTHON is the interpreter of an environment in which the original `moshi` package is installed; DIR is a checkpoint with
the full-size codec (preset `full-mimi` of the reference script). The two take turns, so that a busy machine is fair to
both; the table has each one's median and 95th percentile in milliseconds.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

FRAMES = 100

ORIGINAL = """
import json, sys, time, torch
from moshi.models import loaders
torch.set_grad_enabled(False)
folder, frames = sys.argv[1], int(sys.argv[2])
mimi = loaders.get_mimi(folder + "/" + loaders.MIMI_NAME, None, num_codebooks=8)
pcm = torch.randn(1, 1, 1920 * frames, generator=torch.Generator().manual_seed(0)) * 0.1
encode, decode = [], []
with mimi.streaming(1):
    for i in range(frames):
        a = time.perf_counter(); codes = mimi.encode(pcm[..., 1920 * i : 1920 * (i + 1)])
        b = time.perf_counter(); mimi.decode(codes)
        c = time.perf_counter(); encode.append(b - a); decode.append(c - b)
print(json.dumps([encode[10:], decode[10:]]))
"""
OURS = """
import json, sys, time, numpy as np, duplex
folder, frames = sys.argv[1], int(sys.argv[2])
stream = duplex.load_codec(folder, device="cpu").stream()
pcm = (np.random.default_rng(0).normal(size=1920 * frames) * 0.1).astype(np.float32)
encode, decode = [], []
for i in range(frames):
    a = time.perf_counter(); codes = stream.encode(pcm[1920 * i : 1920 * (i + 1)])
    b = time.perf_counter(); stream.decode(codes)
    c = time.perf_counter(); encode.append(b - a); decode.append(c - b)
print(json.dumps([encode[10:], decode[10:]]))
"""


def measure(python: str, script: str, folder: Path) -> np.ndarray:
    """Return seconds, ``[2, frames]``: encode and decode."""
    environment = os.environ | {"NO_TORCH_COMPILE": "1"}
    command = [python, "-c", script, str(folder), str(FRAMES)]
    return np.array(json.loads(subprocess.check_output(command, env=environment).splitlines()[-1]))


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--original", required=True, metavar="PYTHON")
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    original, ours = [], []
    for _ in range(arguments.rounds):
        original.append(measure(arguments.original, ORIGINAL, arguments.checkpoint))
        ours.append(measure(sys.executable, OURS, arguments.checkpoint))
    table = Table("ms a frame", "encode", "95 %", "decode", "95 %", "both")
    medians = []
    for name, rounds in (("original", original), ("duplex", ours)):
        encode, decode = np.concatenate(rounds, axis=1) * 1e3
        medians.append(np.median(encode) + np.median(decode))
        cells = [
            np.median(encode),
            np.percentile(encode, 95),
            np.median(decode),
            np.percentile(decode, 95),
            medians[-1],
        ]
        table.add_row(name, *(f"{cell:.1f}" for cell in cells))
    table.add_row("ratio", "", "", "", "", f"{medians[1] / medians[0]:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
