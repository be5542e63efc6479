"""Build the temporal transformer in Moshi's real 7B shape, random weights, bfloat16, on the CPU, and step it.

    python benchmarks/seven_billion.py [--steps 5]

Needs about 18 GB of free memory and says so where there is less. Prints the size, the time of a step and the peak
memory of the process.
"""

import argparse
import resource
import sys
import time

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from duplex.backends.torch.state import Call, SlotState, bind
from duplex.backends.torch.transformer import TemporalTransformer
from duplex.checkpoints.language_model_config import LanguageModelConfig

NEEDED = 17e9
BLOCK = 1 << 24


def fill(module: nn.Module) -> int:
    """Give a module built on the meta device random bfloat16 weights, without a float32 copy; return their number."""
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    total = 0
    weights = {}
    for name, tensor in module.state_dict().items():
        if name.endswith("alpha"):
            weights[name] = torch.ones(tensor.shape, dtype=torch.bfloat16)
            continue
        flat = torch.empty(tensor.numel(), dtype=torch.bfloat16)
        for start in range(0, flat.numel(), BLOCK):
            piece = flat[start : start + BLOCK]
            piece.copy_(block[: piece.numel()])
        weights[name] = flat.view(tensor.shape).mul_(tensor.shape[-1] ** -0.5)
        total += flat.numel()
    module.load_state_dict(weights, assign=True)
    return total


@torch.inference_mode()
def main() -> None:
    """Build, step and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=5)
    steps = parser.parse_args().steps
    free = psutil.virtual_memory().available
    if free < NEEDED:
        sys.exit(f"skipped: {free / 1e9:.1f} GB of memory are free, about {NEEDED / 1e9:.0f} GB are needed")
    config = LanguageModelConfig()
    with torch.device("meta"):
        transformer = TemporalTransformer(config)
    weights = fill(transformer)
    declared = bind(transformer, "temporal")
    state = SlotState.allocate(declared, 1, dtype=torch.bfloat16, device=torch.device("cpu"))
    seconds = []
    for step in range(steps + 1):
        x = torch.randn(1, 1, config.dim, dtype=torch.bfloat16)
        start = time.perf_counter()
        y = transformer(x, Call(state, filled=step + 1))
        seconds.append(time.perf_counter() - start)
        if not y.isfinite().all():
            sys.exit("the output is not finite")
    table = Table("temporal transformer of Moshi 7B, bfloat16, CPU", "")
    table.add_row("weights", f"{weights / 1e9:.2f} billion, {weights * 2 / 1e9:.1f} GB")
    cache = sum(tensor.numel() * tensor.element_size() for tensor in state.tensors.values())
    table.add_row("cache of one session", f"{cache / 1e9:.2f} GB for {config.context} frames")
    table.add_row("median step", f"{np.median(seconds[1:]):.2f} s")
    table.add_row("peak memory", f"{peak_memory() / 1e9:.1f} GB")
    Console(width=100).print(table)


def peak_memory() -> float:
    """Return this process's peak resident memory in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
