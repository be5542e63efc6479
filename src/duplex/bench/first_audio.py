"""A process of its own that loads a model and speaks a frame: how long it takes from a cold start, and in what memory.

The command line's argument is what :func:`duplex.load` takes, as JSON; so is what it prints.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import numpy as np

__all__ = ["main", "speak_first"]


def speak_first(choice: dict[str, Any]) -> dict[str, Any]:
    """Load a model and step its first slot until audio comes out; return seconds of each, and bytes."""
    began = time.perf_counter()
    from duplex.backends.selection import select_backend  # noqa: PLC0415 -- what is measured
    from duplex.engine.model import load  # noqa: PLC0415

    import_module(f"duplex.backends.{select_backend(choice['backend'], choice['device']).backend}.model")
    torch: Any = import_module("torch")
    imported, before = time.perf_counter(), resident()
    with load(**choice) as model:
        loaded = time.perf_counter()
        frame_model, spec = model.frame_model, model.spec
        frame_model.open(0, attrs.evolve(model.defaults, seed=0))
        active = np.arange(spec.capacity) == 0
        pcm = np.zeros((spec.capacity, spec.frame_size), np.float32)
        while not frame_model.step(pcm, active).valid[0]:
            pass
        spoken, after = time.perf_counter(), resident()
    on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    grown = None if before is None or after is None else after - before
    return {
        "import_s": round(imported - began, 3),
        "load_s": round(loaded - imported, 3),
        "first_frame_s": round(spoken - loaded, 3),
        "memory_bytes": on_gpu or grown,
    }


def resident() -> int | None:
    """Return the bytes that this process holds, in memory of its own and in pages of weights; ``None``: not known.

    Pages of libraries are left out: which of them have been touched is not the model's doing.
    """
    facts = Path("/proc/self/smaps")
    if not facts.exists():
        return None
    total, weights = 0, False
    for line in facts.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == ("Rss" if weights else "Anonymous"):
            total += 1024 * int(value.split()[0])
        elif " " in name:  # a new part of memory, and whose it is
            weights = line.endswith(".safetensors")
    return total


def main() -> None:
    """Do so with the command line's argument."""
    sys.stdout.write(json.dumps(speak_first(json.loads(sys.argv[1]))))
