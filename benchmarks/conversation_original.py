"""Compare a checkpoint's greedy tokens with those that the original package computes from the same files, in float32.

    python benchmarks/conversation_original.py --original PYTHON [--model tiny|DIR] [RECORDING ...]

PYTHON is the interpreter of an environment in which the original `moshi` package is installed. Prints, for each
recording, how many codes of the user and tokens of the agent differ, and the first frame in which any does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import attrs
import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file, save_file

from duplex.checkpoints import checkpoint

ORIGINAL = """
import json, sys
from pathlib import Path
import torch
from moshi.models import LMGen, loaders
from safetensors.torch import load_file, save_file
torch.set_grad_enabled(False)
weights, mimi_weights, settings, given, out = sys.argv[1:]
config = json.loads(Path(weights).with_name("config.json").read_text())
own = {"mimi_name", "moshi_name", "tokenizer_name", "mimi_config_name", "lm_gen_config", "model_type", "model_id"}
lm = loaders.get_moshi_lm(weights, {k: v for k, v in config.items() if k not in own}, dtype=torch.float32)
mimi = loaders.get_mimi(mimi_weights, json.loads(settings), num_codebooks=config["dep_q"])
results = {}
for name, pcm in load_file(given).items():
    with mimi.streaming(1):
        codes = torch.cat([mimi.encode(pcm[None, None, i : i + 1920]) for i in range(0, len(pcm), 1920)], -1)
    gen = LMGen(lm, use_sampling=False, check=True)
    steps = []
    with gen.streaming(1):
        gen.step(codes[..., :1])  # the initial step: the frame itself is heard with the next
        for i in range(codes.shape[-1]):
            step = gen.step(codes[..., i : i + 1])
            if step is not None:
                steps.append(step)
    results[name] = torch.cat([torch.cat(steps, -1)[0], codes[0]]).contiguous()
save_file(results, out)
"""


def ours(model: str, recordings: list[Path], out: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what was heard, float32 ``[samples]``, and all tokens, int64 ``[streams, frames]``, of each recording."""
    command = [sys.executable, "-m", "duplex", "process", *map(str, recordings), "--model", model, "--out", str(out)]
    subprocess.run([*command, "--greedy", "--dtype", "float32", "--tail", "5"], check=True, stdout=subprocess.DEVNULL)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for path in recordings:
        folder = out / path.stem
        with wave.open(str(folder / "dialogue.wav")) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
        tokens = load_file(folder / "tokens.safetensors")
        rows = np.concatenate([tokens["text"][None], tokens["agent"], tokens["user"]])
        found[path.stem] = samples[:, 0].astype(np.float32) / np.float32(32768), rows
    return found


def original(python: str, model: str, heard: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Return the original's tokens, int64 ``[streams, frames]``."""
    found = checkpoint.resolve(model)
    given, out = folder / "heard.safetensors", folder / "tokens.safetensors"
    save_file(heard, given)
    settings = json.dumps(attrs.asdict(found.mimi))
    command = [python, "-c", ORIGINAL, str(found.weights), str(found.mimi_weights), settings, str(given), str(out)]
    subprocess.run(command, check=True, env=os.environ | {"NO_TORCH_COMPILE": "1"})
    return load_file(out)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--original", required=True, metavar="PYTHON")
    parser.add_argument("--model", default="tiny", metavar="tiny|DIR")
    example = Path(__file__).parent.parent / "examples" / "question.wav"
    parser.add_argument("recordings", nargs="*", type=Path, default=[example], help="16 bit, one channel, 24 kHz")
    arguments = parser.parse_args()
    table = Table("recording", "frames", "user codes ≠", "agent tokens ≠", "first at")
    with tempfile.TemporaryDirectory() as name:
        mine = ours(arguments.model, arguments.recordings, Path(name) / "ours")
        theirs = original(arguments.original, arguments.model, {key: pcm for key, (pcm, _) in mine.items()}, Path(name))
    for key, (_, tokens) in mine.items():
        other = theirs[key][:, : tokens.shape[1]]
        user = (len(tokens) - 1) // 2 + 1
        different = tokens[:, : other.shape[1]] != other
        where = np.flatnonzero(different.any(axis=0))
        counts = (different[user:].sum(), different[:user].sum())
        table.add_row(key, str(other.shape[1]), *map(str, counts), str(where[0]) if len(where) else "")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
