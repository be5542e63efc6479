"""Which backend runs a model: as asked, or the one that suits the machine."""

import platform
import sys
from typing import Literal

import attrs

from duplex.backends import mlx
from duplex.errors import MissingDependencyError, UsageError
from duplex.extras import install_command

__all__ = ["Chosen", "choose"]


@attrs.frozen
class Chosen:
    """A backend, and why it is that one. ``mend`` is a command that would make for a better one, or "" ."""

    backend: Literal["torch", "mlx"]
    why: str
    mend: str = ""


def choose(backend: str, device: str) -> Chosen:
    """Choose a backend; none is imported.

    ``"auto"`` takes CUDA, which is PyTorch's, then Apple silicon, which is MLX's, then the CPU, by PyTorch. A device
    that only one of them has decides.

    :raises UsageError: if there is no such backend
    """
    if backend in {"torch", "mlx"}:
        return Chosen("mlx" if backend == "mlx" else "torch", "it was asked for")
    if backend != "auto":
        raise UsageError(f"there is no backend {backend!r}; use 'auto', 'torch' or 'mlx'")
    if device != "auto":
        return Chosen("mlx" if device == "gpu" else "torch", f"it is the one that runs on {device!r}")
    if (sys.platform, platform.machine()) != ("darwin", "arm64"):
        return Chosen("torch", "this is no Apple silicon; PyTorch takes a CUDA device if there is one, else the CPU")
    try:
        mlx.require()
    except MissingDependencyError as error:
        return Chosen(
            "torch", f"this is Apple silicon, but only PyTorch's CPU can be used: {error}", install_command("mlx")
        )
    return Chosen("mlx", "this is Apple silicon")
