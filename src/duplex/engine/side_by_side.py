"""Memory that several models take side by side, by device, told and checked before any of them is loaded."""

import importlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from duplex.backends.selection import select_backend
from duplex.backends.shared.memory import Memory, SharedMemory
from duplex.checkpoints import checkpoint
from duplex.engine.loading import predict_memory

__all__ = ["predict_side_by_side"]

_PREDICTED = ("backend", "device", "dtype", "quantize", "cache_dtype", "sessions", "guidance")
"""Of the arguments of ``duplex.load`` those that memory depends on, besides the checkpoint's."""


def predict_side_by_side(models: Iterable[tuple[str, Mapping[str, Any]]]) -> list[SharedMemory]:
    """Return what models take of each device, given their names and the other arguments of :func:`duplex.load`.

    No weights are downloaded or read. Whether there is as much is for :meth:`SharedMemory.check` to say.

    :raises CheckpointError: if a checkpoint cannot be found or read
    :raises UsageError: if an argument is out of range or not available here
    :raises MissingDependencyError: if the backend is not installed
    """
    found: defaultdict[tuple[str, str], list[tuple[str, Memory]]] = defaultdict(list)
    there: dict[tuple[str, str], int | None] = {}
    for name, given in models:
        added = {"adapter": given.get("adapter"), "adapters": given.get("adapters")}
        described = checkpoint.describe(name, given.get("revision"), **added)
        memory = predict_memory(described, **{key: given[key] for key in _PREDICTED if key in given})
        if memory is None:  # a codec alone, which loading refuses
            continue
        backend, device = given.get("backend", "auto"), given.get("device", "auto")
        loader: Any = importlib.import_module(f"duplex.backends.{select_backend(backend, device).backend}")
        placed = loader.placement(device, given.get("dtype", "auto"))
        place = placed.backend, placed.device
        found[place].append((name, memory))
        there[place] = loader.available_memory(device)
    return [
        SharedMemory(device=device, models=models, there=there[backend, device])
        for (backend, device), models in found.items()
    ]
