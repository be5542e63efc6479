"""The machine that a benchmark ran on, without which its figures mean nothing."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import attrs

from duplex import __version__
from duplex.backends.shared.processor import processor

__all__ = ["Machine", "this_machine"]

PACKAGES = ("torch", "mlx", "numpy", "triton")


@attrs.frozen(kw_only=True)
class Machine:
    """A machine's hardware, installed versions, and the time of the inspection (UTC)."""

    processor: str
    cores: int
    memory_bytes: int | None
    gpu: str | None
    system: str
    python: str
    versions: dict[str, str]
    date: str

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return attrs.asdict(self)

    def __str__(self) -> str:
        """Return it on a line."""
        memory = "" if self.memory_bytes is None else f", {self.memory_bytes / 2**30:.0f} GiB"
        gpu = "" if self.gpu is None else f", {self.gpu}"
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"{self.processor}, {self.cores} cores{memory}{gpu}; {self.system}, Python {self.python}, {versions}; "
            f"{self.date}"
        )


def this_machine() -> Machine:
    """Look at the machine."""
    versions = {"duplex": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        processor=processor(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        memory_bytes=_memory(),
        gpu=_gpu(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions=versions,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not on Windows
        return None


def _gpu() -> str | None:
    if find_spec("torch") is None:
        return None
    import torch  # noqa: PLC0415 -- takes seconds to import

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
