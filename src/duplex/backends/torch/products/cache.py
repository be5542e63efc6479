"""The timings of this machine, in a file of the user's cache.

There is a file for each processor, release of PyTorch, number of threads and limit of instructions in force: what was
timed with others says nothing. Whatever is wrong with a file, or the folder, costs the timing alone.
"""

import hashlib
import json
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import attrs
import torch

from duplex.atomic import atomic_write_text
from duplex.backends.shared.processor import processor
from duplex.backends.torch.products.choice import Layout, Product, Timings
from duplex.checkpoints.user_cache import cache_folder
from duplex.errors import OutputError

__all__ = ["TimingCache"]

logger: logging.Logger = logging.getLogger(__name__)
VERSION = 1
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""Variables that forbid a library some of the processor's instructions."""
Entries = dict[str, dict[str, float]]
"""Microseconds by layout, of products named with their rows."""


def circumstances(threads: int) -> dict[str, Any]:
    """Return what timings depend on."""
    return {
        "version": VERSION,
        "processor": processor(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "limits": {name: os.environ[name] for name in LIMITS if name in os.environ},
    }


@attrs.define
class TimingCache:
    """What has been timed in these circumstances."""

    threads: int
    entries: Entries = attrs.field(factory=dict[str, dict[str, float]])

    @classmethod
    def read(cls, threads: int) -> "TimingCache":
        """Return what the cache holds for this machine and so many threads, as of now; nothing if it is unreadable."""
        cache = cls(threads)
        cache.entries = {**_read(cache.path, cache.circumstances), **_KEPT.get(cache.path, {})}
        return cache

    @property
    def circumstances(self) -> dict[str, Any]:
        """What its timings depend on."""
        return circumstances(self.threads)

    @property
    def path(self) -> Path:
        """The file."""
        digest = hashlib.sha256(json.dumps(self.circumstances, sort_keys=True).encode()).hexdigest()
        return cache_folder() / f"products-{digest[:16]}.json"

    def timings(self, product: Product, rows: list[int], layouts: tuple[Layout, ...]) -> Timings | None:
        """Return the timings of a product, if all of them are known."""
        found = {count: self.entries.get(str(attrs.evolve(product, rows=count)), {}) for count in rows}
        if any(layout not in times for times in found.values() for layout in layouts):
            return None
        return {count: {layout: times[layout] for layout in layouts} for count, times in found.items()}

    def put(self, product: Product, timings: Timings) -> None:
        """Remember what was timed."""
        for count, times in timings.items():
            rounded = {str(layout): max(round(seconds * 1e6, 2), 0.01) for layout, seconds in times.items()}
            self.entries[str(attrs.evolve(product, rows=count))] = rounded

    def write(self) -> None:
        """Keep it, for this process and, if the folder lets it, for others; what another has written meanwhile stays.

        So that processes that start together end up with the same choices, who comes second takes over what is there.
        """
        path = self.path
        others = _read(path, self.circumstances)
        whole_ones = {
            name: times for name, times in others.items() if times.keys() >= self.entries.get(name, {}).keys()
        }
        self.entries = self.entries | whole_ones
        _KEPT[path] = self.entries
        whole = {"circumstances": self.circumstances, "microseconds": self.entries}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, json.dumps(whole, indent=1, sort_keys=True))
        except (OSError, OutputError) as error:
            logger.info("what was timed is not kept, and will be timed again: %s", error)


_KEPT: dict[Path, Entries] = {}
"""What this process has timed: a folder that cannot be written must not change its mind."""


def _read(path: Path, wanted: Mapping[str, Any]) -> Entries:
    """Return a file's entries, without those that cannot be right."""
    try:
        whole: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(whole, dict):
        return {}
    held = cast("dict[str, Any]", whole)
    entries: Any = held.get("microseconds")
    if held.get("circumstances") != wanted or not isinstance(entries, dict):
        return {}
    found = cast("dict[str, Any]", entries)
    return {name: times for name, times in found.items() if _is_timing(times)}


def _is_timing(times: Any) -> bool:
    if not isinstance(times, dict):
        return False
    values = list(cast("dict[str, Any]", times).values())
    return all(isinstance(value, int | float) and 0 < value < float("inf") for value in values)
