"""What does an adapter cost? Loads a model with and without one, each in a process of its own, and steps both.

    python benchmarks/random_model.py --out DIR --shape 300m
    python benchmarks/adapter.py --model DIR [--rank 128] [--rounds 3] [--frames 100] [--backend torch|mlx]
        [--device cpu] [--dtype bfloat16] [--quantize int8] [--own]

The adapter has random numbers of the given rank for every matrix of the model. Plain and adapted take turns: in
processes of their own for the time to load, the peak memory and what of it the model holds, and in one process, frame
by frame, for a frame's time. Medians are printed.

With ``--own`` the adapters are sessions' own instead: four on one model, whose batches of one and of four sessions take
turns, with none, one and four adapters among them.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

import duplex
from duplex.bench.first_audio import resident_memory
from duplex.checkpoints.adapter_changes import shapes_of
from duplex.checkpoints.checkpoint import read_header, resolve

WARM_UP = 10
MB = 1e6


def write_adapter(model: str, folder: Path, rank: int) -> str:
    """Write an adapter of random numbers for every matrix of a model; return its folder's name."""
    found = resolve(model)
    if found.language_model is None or found.weights is None:
        sys.exit(f"{model} is a codec alone; give a dialogue model")
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in shapes_of(read_header(found.weights), found.language_model, model).items():
        if len(shape) != len(("out", "in")) or "emb." in name:
            continue
        module = name.removesuffix(".weight").removesuffix("_weight")
        steps = found.language_model.dep_q if "self_attn" in name and name.startswith("depformer") else 1
        down = torch.randn(steps * rank, shape[1], generator=generator) / shape[1] ** 0.5
        tensors[f"{module}.lora_A.weight"] = down.bfloat16()
        tensors[f"{module}.lora_B.weight"] = (0.01 * torch.randn(shape[0], rank, generator=generator)).bfloat16()
    save_file(tensors, folder / "lora.safetensors")
    (folder / "config.json").write_text(json.dumps({"lora": True, "lora_rank": rank, "lora_scaling": 2.0}) + "\n")
    return str(folder)


def measure(choice: dict[str, Any]) -> dict[str, float]:
    """Load a model; return seconds and bytes."""
    with duplex.load("tiny", device=choice["device"], backend=choice["backend"]):
        pass  # what is imported and set up for any model
    before = resident_memory() or 0
    began = time.perf_counter()
    with duplex.load(**choice) as model:
        loaded = time.perf_counter()
        Stepper(model).step()
        after = resident_memory() or 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"load": loaded - began, "peak": peak, "held": after - before, "gpu": on_gpu}


class Stepper:
    """A conversation with a model, frame by frame."""

    def __init__(self, model: duplex.Model) -> None:
        self._model = model.frame_model
        self._model.open(0, attrs.evolve(model.defaults, seed=0))
        noise = np.random.default_rng(0).standard_normal((1, model.spec.frame_size))
        self._sound = (0.05 * noise).astype(np.float32)
        self.seconds: list[float] = []

    def step(self) -> None:
        """Step the model, and note how long it took."""
        start = time.perf_counter()
        self._model.step(self._sound, np.ones(1, np.bool_))
        self.seconds.append(time.perf_counter() - start)

    @property
    def frame(self) -> float:
        """The median of a frame's seconds, without the first ones."""
        return statistics.median(self.seconds[WARM_UP:])


def time_frames(choice: dict[str, Any], adapter: str, frames: int) -> dict[str, float]:
    """Step both models in turns; return the seconds of a frame."""
    with duplex.load(**choice) as plain, duplex.load(**choice, adapter=adapter) as adapted:
        both = {"plain": Stepper(plain), "adapted": Stepper(adapted)}
        for _ in range(frames + WARM_UP):
            for stepper in both.values():
                stepper.step()
    return {name: stepper.frame for name, stepper in both.items()}


OWN: dict[str, list[str | None]] = {
    "1 session, none": [None],
    "1 session, 1 adapter": ["a"],
    "4 sessions, none": [None] * 4,
    "4 sessions, 1 adapter, of one": ["a", None, None, None],
    "4 sessions, 1 adapter, of all": ["a"] * 4,
    "4 sessions, 4 adapters": ["a", "b", "c", "d"],
}
"""Batches, each with the adapters of its sessions."""


def time_own(choice: dict[str, Any], adapter: str, frames: int) -> None:
    """Step batches of one model in turns, and print their medians, of time and of the processor's."""
    names = [name for batch in OWN.values() for name in batch]
    adapters = dict.fromkeys("abcd", adapter)
    with duplex.load(**choice, sessions=len(names), adapters=adapters) as model:
        frame_model, spec = model.frame_model, model.spec
        for slot, name in enumerate(names):
            frame_model.open(slot, attrs.evolve(model.defaults, seed=slot, adapter=name))
        noise = np.random.default_rng(0).standard_normal((len(names), spec.frame_size))
        sound, seconds = (0.05 * noise).astype(np.float32), {what: list[tuple[float, float]]() for what in OWN}
        for _ in range(frames + WARM_UP):
            first = 0
            for what, batch in OWN.items():
                active = np.zeros(len(names), np.bool_)
                active[first : first + len(batch)] = True
                first += len(batch)
                start = time.perf_counter(), time.process_time()
                frame_model.step(sound, active)
                seconds[what].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    table = Table("batch", "frame, ms", "processor, ms")
    for what, taken in seconds.items():
        medians = (statistics.median(each) for each in zip(*taken[WARM_UP:], strict=True))
        table.add_row(what, *(f"{1000 * median:.1f}" for median in medians))
    Console(width=110).print(table)


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--quantize")
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    choice = {"name": given.model, "backend": given.backend, "device": given.device, "dtype": given.dtype}
    choice |= {"quantize": given.quantize} if given.quantize else {}
    if given.worker is not None:
        adapter = {"adapter": given.worker} if given.worker else {}
        sys.stdout.write(json.dumps(measure(choice | adapter)))
        return
    results: dict[str, list[dict[str, float]]] = {"plain": [], "adapted": []}
    with tempfile.TemporaryDirectory() as folder:
        adapter = write_adapter(given.model, Path(folder), given.rank)
        if given.own:
            time_own(choice, adapter, given.frames)
            return
        size = (Path(folder) / "lora.safetensors").stat().st_size
        for _ in range(given.rounds):
            for name, value in (("plain", ""), ("adapted", adapter)):
                command = [sys.executable, __file__, *sys.argv[1:], "--worker", value]
                ended = subprocess.run(command, capture_output=True, text=True, check=True)
                results[name].append(json.loads(ended.stdout.splitlines()[-1]))
        frames = time_frames(choice, adapter, given.frames)
    table = Table(f"rank {given.rank}, {size / MB:.0f} MB", "load, s", "peak, MB", "held, MB", "GPU, MB", "frame, ms")
    for name, rounds in results.items():
        middle = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        sizes = (f"{middle[key] / MB:.0f}" for key in ("peak", "held", "gpu"))
        table.add_row(name, f"{middle['load']:.2f}", *sizes, f"{1000 * frames[name]:.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
