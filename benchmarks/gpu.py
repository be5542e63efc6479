"""Measure on a CUDA GPU all that is claimed of it: frames, many sessions, a server, half an hour of conversation.

    python benchmarks/gpu.py [--out FOLDER] [--only PART ...]

Each part is a command of its own, which is printed, and which can be run alone; what it prints is kept in the folder.
Random weights of Moshi's size, 7B, are made on the GPU: nothing is downloaded. All parts take about fifty minutes, of
which half an hour is one conversation. Aims, of an H200: one session 5 ms in bfloat16 and 3.5 ms in 8 bits; 128
sessions with a full context 99 % of the frames in 40 ms, 160 in 80 ms; 96 and 128 calls over websockets, with Opus,
95 % in 120 ms from a frame's last sample; memory that stays the same.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent
SMALL = ("--quantize", "int8", "--cache-dtype", "int8")
PARTS: dict[str, tuple[str, ...]] = {
    "bfloat16": ("cuda_frame.py",),
    "int8": ("cuda_frame.py", *SMALL),
    "fp8": ("cuda_frame.py", "--quantize", "fp8", "--cache-dtype", "int8"),
    "int4": ("cuda_frame.py", "--quantize", "int4", "--cache-dtype", "int8"),
    "sessions": ("cuda_frame.py", *SMALL, "--sessions", "32", "64", "128", "160", "--context", "3000"),
    "server": ("server_load.py", "--model", "7b", "--sessions", "96", "128", "--fronts", "1", "2", "--seconds", "60"),
    "minutes": ("cuda_frame.py", *SMALL, "--minutes", "30", "--context", "0"),
}


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="default: gpu")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA GPU here")
    arguments.out.mkdir(parents=True, exist_ok=True)
    failed = [name for name in arguments.only if not run(name, arguments.out / f"{name}.txt")]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; what they told is in {arguments.out}")


def run(name: str, kept: Path) -> bool:
    """Run a part, printing what it prints and keeping it; return whether it succeeded."""
    script, *options = PARTS[name]
    print(f"$ python benchmarks/{script} {' '.join(options)}", flush=True)
    began = time.monotonic()
    with kept.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, str(HERE / script), *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in process.stdout or ():
            print(line, end="", flush=True)
            file.write(line)
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return process.wait() == 0


if __name__ == "__main__":
    main()
