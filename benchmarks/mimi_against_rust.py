"""Time Mimi frame by frame beside `rustymimi`, the original's Rust build, in one run.

    python benchmarks/mimi_against_rust.py --python PYTHON --checkpoint DIR [--rounds 3]

PYTHON is the interpreter of an environment in which `rustymimi` is installed; DIR is a checkpoint with the full-size
codec, such as `random_model.py --codec published` writes. The two take turns; the table has medians in milliseconds.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

FRAMES, WARM_UP = 60, 5
RUST = """
import json, sys, time, numpy as np, rustymimi
mimi = rustymimi.Tokenizer(sys.argv[1], num_codebooks=8)
step = lambda frame: mimi.encode_step(frame[None, None])
hear = lambda codes: mimi.decode_step(codes)
"""
OURS = """
import json, sys, time, numpy as np, duplex
from pathlib import Path
quantize = sys.argv[3] if len(sys.argv) > 3 else None
stream = duplex.load_codec(str(Path(sys.argv[1]).parent), device="cpu", quantize=quantize).stream()
step, hear = stream.encode, stream.decode
"""
TIMED = """
encode, decode = [], []
for frame in (np.random.default_rng(0).normal(size=(int(sys.argv[2]), 1920)) * 0.1).astype(np.float32):
    a = time.perf_counter(); codes = step(frame)
    b = time.perf_counter(); hear(codes)
    c = time.perf_counter(); encode.append(b - a); decode.append(c - b)
print(json.dumps([encode, decode]))
"""


def measure(python: str, script: str, *arguments: str) -> np.ndarray:
    """Return milliseconds, ``[2, frames]``: encode and decode."""
    command = [python, "-c", script + TIMED, *arguments]
    return 1e3 * np.array(json.loads(subprocess.check_output(command).splitlines()[-1]))[:, WARM_UP:]


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", required=True)
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    weights = str(next(arguments.checkpoint.glob("tokenizer-*.safetensors")))
    given = (weights, str(FRAMES))
    runs = {
        "rustymimi": lambda: measure(arguments.python, RUST, *given),
        "duplex": lambda: measure(sys.executable, OURS, *given),
        "duplex, int8": lambda: measure(sys.executable, OURS, *given, "int8"),
    }
    found: dict[str, list[np.ndarray]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            found[name].append(run())
    table = Table("ms a frame", "encode", "decode", "both", "times faster")
    slowest = 0.0
    for name, rounds in found.items():
        encode, decode = np.median(np.concatenate(rounds, axis=1), axis=1)
        slowest = slowest or encode + decode
        table.add_row(name, *(f"{cell:.1f}" for cell in (encode, decode, encode + decode, slowest / (encode + decode))))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
