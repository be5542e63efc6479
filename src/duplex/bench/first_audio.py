"""The process of the cold start benchmark: loads a model, generates its first audio, and measures time and memory.

Its argument is a JSON object of :func:`duplex.load`'s arguments; it prints the measurements as JSON.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import numpy as np

__all__ = ["main", "measure_first_audio"]


def measure_first_audio(choice: dict[str, Any]) -> dict[str, Any]:
    """Load a model and step its first slot until there is audio; return the seconds of each part, and bytes."""
    began = time.perf_counter()
    from duplex.backends.selection import select_backend  # noqa: PLC0415 -- what is measured
    from duplex.engine.loading import load  # noqa: PLC0415

    import_module(f"duplex.backends.{select_backend(choice['backend'], choice['device']).backend}.model")
    torch: Any = import_module("torch")
    imported, before = time.perf_counter(), resident_memory()
    with load(**choice) as model:
        loaded = time.perf_counter()
        frame_model, spec = model.frame_model, model.spec
        frame_model.open(0, attrs.evolve(model.defaults, seed=0))
        active = np.arange(spec.capacity) == 0
        pcm = np.zeros((spec.capacity, spec.frame_size), np.float32)
        while not frame_model.step(pcm, active).valid[0]:
            pass
        spoken, after = time.perf_counter(), resident_memory()
    on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    grown = None if before is None or after is None else after - before
    return {
        "import_s": round(imported - began, 3),
        "load_s": round(loaded - imported, 3),
        "first_frame_s": round(spoken - loaded, 3),
        "memory_bytes": on_gpu or grown,
    }


def resident_memory() -> int | None:
    """Return the resident bytes of this process, anonymous memory and mapped weights, or ``None`` if unknown.

    Pages of libraries are excluded, because they do not depend on the model.
    """
    facts = Path("/proc/self/smaps")
    if not facts.exists():
        return None
    total, weights = 0, False
    for line in facts.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == ("Rss" if weights else "Anonymous"):
            total += 1024 * int(value.split()[0])
        elif " " in name:  # a new mapping, with its file
            weights = line.endswith(".safetensors")
    return total


def main() -> None:
    """Measure with the arguments from the command line, and print the result."""
    sys.stdout.write(json.dumps(measure_first_audio(json.loads(sys.argv[1]))))
