"""Does a published model compute here what the original computes, how fast, and in how much memory? One command.

    python benchmarks/published.py kyutai/moshiko-pytorch-bf16 [--revision REVISION] [--adapter ADAPTER]
        [--dtype float32|bfloat16] [--device cpu|cuda] [--backend torch|mlx] [--quantize int8] [--frames 150]
        [--recording examples/conversation.wav] [--original PYTHON | --environment DIR] [--out published]

It wants a network, room for the weights (15 GB for Moshi 7B) and for them in memory, best on a GPU. It makes an
environment for the original (`moshi` from PyPI), downloads the weights once for both, runs one after the other on a
shipped recording, greedily, and prints a report to paste into an issue; the same lies in --out, with all tokens.

Codes and tokens are exactly equal in float32 (--dtype float32, 31 GB for Moshi 7B). In bfloat16 both round, each in its
own order: the first frame with other tokens is told, and by how much the original's likeliest text was ahead there.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import venv
import wave
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duplex.bench.machine import this_machine
from duplex.checkpoints.checkpoint import Checkpoint, resolve
from duplex.checkpoints.layout import CheckpointLayout, read_json
from duplex.checkpoints.sources import CONFIG, locate, resolve_source
from duplex.errors import DuplexError
from published_worker import Run

HERE = Path(__file__).parent
PACKAGE = "moshi==0.2.13"
KINDS = ("moshi",)
"""Kinds of models that both run on a recording, without anything else to be told."""
RATE, FRAME = 24000, 1920
GIGABYTE = 1e9


class Comparison(NamedTuple):
    """How many of the user's codes differ; in how many frames all tokens are equal, and which differ in the next."""

    codes: int
    of: int
    frames: int
    equal: int
    first: list[str]
    margin: float | None


def make_environment(folder: Path, package: str) -> Path:
    """Return the interpreter of an environment that has the original, made if it is not there."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "installed"
    if not done.exists() or done.read_text() != package:
        tell(f"installing {package} into {folder} (some GB, for PyTorch)")
        venv.create(folder, with_pip=True, clear=True)
        ended = subprocess.run([python, "-m", "pip", "install", "-q", package], check=False)
        if ended.returncode:
            sys.exit(f"{package} cannot be installed by {python}; give another environment with --original PYTHON")
        done.write_text(package)
    return python


def user_of(recording: Path, frames: int) -> NDArray[np.float32]:
    """Return the user's samples: so many whole frames, the recording over and over if it is shorter."""
    with wave.open(str(recording)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            sys.exit(f"{recording} is not of 24 kHz, one channel and 16 bit; convert it with a program for sound")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return np.resize(samples.astype(np.float32) / np.float32(32768), frames * FRAME)


def files_of(found: Checkpoint, name: str, revision: str | None, out: Path) -> dict[str, str | None]:
    """Return what the original is to load: the same files, and with an adapter a configuration that says so."""
    _, source = resolve_source(name, found.revision or revision, progress=False)
    layout = CheckpointLayout.read(source, codec_only=False)
    mimi_config = None
    if layout.mimi_config is not None:
        place, file = locate(layout.mimi_config, source, key="mimi_config_name", progress=False)
        mimi_config = str(place.fetch(file))
    config = None
    if source.has(CONFIG):
        config = source.fetch(CONFIG)
        if found.adapter is not None:
            info = found.adapter.info
            ranks = {"lora_rank": info.ranks[-1]} if info.ranks else {}
            changed = read_json(config, name) | {"lora": True, "lora_scaling": info.scaling} | ranks
            config = out / CONFIG
            config.write_text(json.dumps(changed))
    return {
        "hf_repo": name,
        "moshi_weights": str(found.weights),
        "mimi_weights": str(found.mimi_weights),
        "tokenizer": str(found.tokenizer),
        "config_path": None if config is None else str(config),
        "mimi_config_path": mimi_config,
        "lora_weights": None if found.adapter is None else str(found.adapter.path),
    }


def run(python: str | Path, which: str, given: dict[str, Any], out: Path) -> Run:
    """Run one of the two in a process of its own; return what it wrote."""
    tell(f"running {which}")
    target = out / which
    asked = out / f"{which}.request.json"
    asked.write_text(json.dumps(given))
    command = [str(python), str(HERE / "published_worker.py"), which, str(asked), str(target)]
    # As `duplex bench` runs it: without a compiler, which many machines have not.
    ended = subprocess.run(command, check=False, env=os.environ | {"NO_TORCH_COMPILE": "1"})
    if ended.returncode:
        sys.exit(f"{which} failed; its own words are above")
    return Run.read(target)


def compare(ours: Run, theirs: Run) -> Comparison:
    """Compare codes and tokens."""
    frames = min(ours.tokens.shape[1], theirs.tokens.shape[1])
    same = (ours.tokens[:, :frames] == theirs.tokens[:, :frames]).all(axis=0)
    equal = frames if same.all() else int(np.flatnonzero(~same)[0])
    streams = [] if same.all() else np.flatnonzero(ours.tokens[:, equal] != theirs.tokens[:, equal])
    return Comparison(
        codes=int((ours.codes != theirs.codes).sum()),
        of=ours.codes.size,
        frames=frames,
        equal=equal,
        first=[f"code {stream}" if stream else "text" for stream in streams],
        margin=None if same.all() else float(theirs.margins[equal]),
    )


def report(given: argparse.Namespace, found: Checkpoint, ours: Run, theirs: Run, downloading: float) -> str:
    """Return the report, as Markdown."""
    compared = compare(ours, theirs)
    tokens = f"all equal in {compared.frames} frames"
    if compared.first:
        tokens = (
            f"equal in the first {compared.equal} of {compared.frames} frames; in the next {', '.join(compared.first)} "
            f"differ, where the likeliest text of {theirs.facts['version']} is ahead by {compared.margin:.4f}"
        )
    rows = [("", theirs.facts["version"], ours.facts["version"])]
    rows += [
        (label, f"{theirs.facts[key]:.1f}", f"{ours.facts[key]:.1f}")
        for label, key in (("import, s", "import"), ("load, s", "load"), ("first frame, s", "first"))
    ]
    for label, quantile in (("frame, median, ms", 0.5), ("frame, 95 %, ms", 0.95), ("frame, 99 %, ms", 0.99)):
        rows.append((label, *(f"{1000 * np.quantile(each.seconds, quantile):.1f}" for each in (theirs, ours))))
    for label, key in (("peak memory of the GPU, GB", "gpu"), ("peak memory of the process, GB", "peak")):
        rows.append((label, *(f"{each.facts[key] / GIGABYTE:.2f}" for each in (theirs, ours))))
    adapter = "" if found.adapter is None else f", adapter {found.adapter.pinned}"
    source = f"revision {found.revision or 'none: a folder'}{adapter}"
    heard = f"{given.recording.name}, {ours.codes.shape[1]} frames; download {downloading:.0f} s"
    table = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(
        [
            f"## {given.name}, {ours.facts['dtype']} on {ours.facts['device']}",
            "",
            f"{source}; {this_machine()}; PyTorch of the original {theirs.facts['torch']}; {heard}",
            "",
            f"- codes of the user: {compared.codes} of {compared.of} differ",
            f"- greedy text and codes of the agent: {tokens}",
            "",
            table[0],
            "|---|---|---|",
            *table[1:],
            "",
        ]
    )


def tell(what: str) -> None:
    """Say what is going on."""
    sys.stderr.write(f"published: {what} ...\n")


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", help="a repository of the hub, or a folder")
    parser.add_argument("--revision")
    parser.add_argument("--adapter")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="float32 on a CPU, else bfloat16")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="cuda if there is one; the original's too")
    parser.add_argument("--backend", choices=["torch", "mlx"], default="torch")
    parser.add_argument("--quantize", help="ours alone: int8, fp8, int4")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--recording", type=Path, default=HERE.parent / "examples" / "conversation.wav")
    parser.add_argument("--original", type=Path, metavar="PYTHON", help="an environment that has the original")
    parser.add_argument("--environment", type=Path, default=Path.home() / ".cache" / "duplex" / "original")
    parser.add_argument("--package", default=PACKAGE, help="what is installed there")
    parser.add_argument("--out", type=Path, default=Path("published"))
    return parser.parse_args()


def main() -> None:
    """Run both and print the report."""
    given = parse_arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    tell(f"downloading {given.name}")
    began = time.perf_counter()
    try:
        found = resolve(given.name, revision=given.revision, adapter=given.adapter)
        sound = user_of(given.recording, given.frames)
    except DuplexError as error:
        sys.exit(f"published: {error}")
    downloading = time.perf_counter() - began
    if found.model_type not in KINDS:
        sys.exit(f"published: {given.name} is of the kind {found.model_type}; this compares {', '.join(KINDS)}")
    np.save(given.out / "user.npy", sound)
    python = given.original or make_environment(given.environment, given.package)
    shared = {"sound": str(given.out / "user.npy"), "device": given.device, "dtype": given.dtype}
    theirs = run(
        python, "original", shared | {"files": files_of(found, given.name, given.revision, given.out)}, given.out
    )
    choice = {"name": given.name, "revision": found.revision, "adapter": given.adapter, "backend": given.backend}
    ours = run(sys.executable, "duplex", shared | {"choice": choice | {"quantize": given.quantize}}, given.out)
    text = report(given, found, ours, theirs, downloading)
    (given.out / "report.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
