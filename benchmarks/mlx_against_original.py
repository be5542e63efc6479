"""Time the MLX backend frame by frame beside the original `moshi_mlx` package, on the same weights, in one run.

    python benchmarks/mlx_against_original.py --original PYTHON --checkpoint DIR [--rounds 2] [--frames 20]

PYTHON is the interpreter of an environment in which the original `moshi_mlx` package is installed; DIR is a checkpoint
in torch's layout with the full-size codec, such as `random_model.py --shape 300m --codec published` writes. The two
take turns, and what is measured is the time that each one's process computes on the CPU, which a busy machine changes
less than the time that passes; the table has each one's median and 95th percentile in milliseconds.
Their codes are compared too, and the text token of the language model's first step. Not all codes are equal: duplex's
are those of its torch backend, which the tests compare with the original for PyTorch.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

WARM_UP = 3
KINDS = ("mimi", "float32", "bfloat16")

ORIGINAL = """
import json, sys, time, numpy as np, mlx.core as mx
from importlib.metadata import version
from moshi_mlx import models, utils
folder, frames, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
config = json.load(open(folder + "/config.json"))
pcm = (np.random.default_rng(0).normal(size=(frames, 1, 1, 1920)) * 0.1).astype(np.float32)
times = {"encode": [], "decode": [], "step": []}
found = {"versions": f"moshi_mlx {version('moshi_mlx')} on mlx {version('mlx')}", "text": []}
if kind == "mimi":
    mimi = models.mimi.Mimi(models.mimi.mimi_202407(32))
    mimi.load_pytorch_weights(folder + "/" + config["mimi_name"], strict=False)
    chain = mimi.quantizer.rvq_rest.vq
    chain.layers = chain.layers[:7]  # it loads all or none, and the model uses 8
    mx.eval(mimi.parameters())
    for frame in pcm:
        a = time.process_time(); codes = mimi.encode_step(mx.array(frame)); mx.eval(codes)
        b = time.process_time(); out = mimi.decode_step(codes); mx.eval(out)
        c = time.process_time(); times["encode"].append(b - a); times["decode"].append(c - b)
        found.setdefault("codes", []).append(np.array(codes)[0, :, 0].tolist())
        found["level"] = float(np.abs(np.array(out)).max())
else:
    lm_config = models.LmConfig.from_config_dict(config)
    lm = models.Lm(lm_config)
    lm.load_pytorch_weights(folder + "/" + config["moshi_name"], lm_config, strict=True)
    lm.set_dtype(getattr(mx, kind)); mx.eval(lm.parameters())
    greedy = utils.Sampler(temp=0.0)
    gen = models.LmGen(model=lm, max_steps=frames, text_sampler=greedy, audio_sampler=greedy)
    user = np.random.default_rng(1).integers(0, config["card"], (frames, 1, lm_config.other_codebooks))
    for codes in user:
        a = time.process_time()
        text, _ = gen.step(mx.array(codes)); mx.eval(text, gen.gen_sequence)
        times["step"].append(time.process_time() - a)
        found["text"].append(int(text.reshape(-1)[0].item()))
print(json.dumps([times, found]))
"""
OURS = """
import json, sys, time, numpy as np, mlx.core as mx, duplex
from importlib.metadata import version
from pathlib import Path
from duplex.checkpoints import checkpoint
from duplex.backends.mlx.language_model import load_language_model
from duplex.backends.mlx.sampling import Sampling
from duplex.backends.mlx.state import Call, allocate, bind
folder, frames, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
pcm = (np.random.default_rng(0).normal(size=(frames, 1920)) * 0.1).astype(np.float32)
times = {"encode": [], "decode": [], "step": []}
found = {"versions": f"duplex {duplex.__version__} on mlx {version('mlx')}", "text": []}
if kind == "mimi":
    stream = duplex.load_codec(folder, backend="mlx").stream()
    for frame in pcm:
        a = time.process_time(); codes = stream.encode(frame)
        b = time.process_time(); out = stream.decode(codes)
        c = time.process_time(); times["encode"].append(b - a); times["decode"].append(c - b)
        found.setdefault("codes", []).append(codes[:, 0].tolist())
        found["level"] = float(np.abs(out).max())
else:
    resolved, dtype = checkpoint.resolve(folder), getattr(mx, kind)
    config = resolved.language_model
    lm = load_language_model(config, resolved.weights, dtype=dtype, packing=None)
    options = duplex.SessionOptions(temperature=0.0, text_temperature=0.0, top_k=0, text_top_k=0, seed=0)
    state = allocate(bind(lm, "lm", 32), dtype); lm.begin(state, options)
    user = np.random.default_rng(1).integers(0, config.card, (frames, config.user_streams))
    for index, codes in enumerate([None, *user][:frames]):
        a = time.process_time()
        heard = None if codes is None else mx.array(codes.astype(np.int32))[None]
        step = lm(heard, Call([state], index + 1), Sampling.of([options])); mx.eval(step.tokens, state)
        times["step"].append(time.process_time() - a)
        found["text"].append(int(step.text_logits.argmax().item()))
print(json.dumps([times, found]))
"""


def measure(python: str, script: str, folder: Path, frames: int, kind: str) -> Any:
    """Run one of the two; return its seconds by stage, and what it computed."""
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    command = [python, "-c", script, str(folder), str(frames), kind]
    return json.loads(subprocess.check_output(command, env=environment).splitlines()[-1])


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--original", required=True, metavar="PYTHON")
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="Mimi; the language model by dtype.")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    sides = {"original": (arguments.original, ORIGINAL), "duplex": (sys.executable, OURS)}
    seconds: dict[tuple[str, str], list[float]] = {}
    found: dict[tuple[str, str], Any] = {}
    for _ in range(arguments.rounds):
        for kind in arguments.kinds:
            for side, (python, script) in sides.items():
                times, found[side, kind] = measure(python, script, arguments.checkpoint, arguments.frames, kind)
                for stage, values in times.items():
                    name = f"language model, {kind}" if stage == "step" else f"Mimi, {stage}"
                    seconds.setdefault((name, side), []).extend(values[WARM_UP:])
    rows = report(seconds)
    same: dict[str, Any] = {}
    for kind in arguments.kinds:
        one, other = (found[side, kind] for side in sides)
        if kind == "mimi":
            same["codes"] = float((np.array(one["codes"]) == np.array(other["codes"])).mean())
        else:  # what follows the initial step is not comparable: the two are given the user's codes at other steps
            same[f"first text token, {kind}"] = one["text"][0] == other["text"][0]
    print(json.dumps(same), "; ".join(found[side, arguments.kinds[0]]["versions"] for side in sides))
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "same": same}, indent=1) + "\n")


def report(seconds: dict[tuple[str, str], list[float]]) -> dict[str, Any]:
    """Print the table; return its numbers."""
    table = Table("CPU ms a frame", "original", "95 %", "duplex", "95 %", "ratio")
    rows: dict[str, Any] = {}
    for stage in dict.fromkeys(name for name, _ in seconds):
        cells = {}
        for side in ("original", "duplex"):
            values = np.array(seconds[stage, side]) * 1e3
            if len(values):
                cells |= {side: float(np.median(values)), f"{side} 95 %": float(np.percentile(values, 95))}
        if cells:
            rows[stage] = cells
            ratio = cells["duplex"] / cells["original"]
            table.add_row(stage, *(f"{cell:.1f}" for cell in cells.values()), f"{ratio:.2f}")
    Console(width=100).print(table)
    return rows


if __name__ == "__main__":
    main()
