"""Selection of the backend that runs a model: the one asked for, or the one that suits the machine."""

import platform
import sys
from typing import Literal

import attrs

from duplex.backends import mlx
from duplex.errors import MissingDependencyError, UsageError
from duplex.extras import install_command, is_installed

__all__ = ["Selection", "select_backend"]


@attrs.frozen
class Selection:
    """A backend, and why it is that one. ``mend`` is a command that would make for a better one, or "" ."""

    backend: Literal["torch", "mlx"]
    why: str
    mend: str = ""


def select_backend(backend: str, device: str) -> Selection:
    """Choose a backend; none is imported.

    ``"auto"`` takes CUDA, which is PyTorch's, then Apple silicon, which is MLX's, then the CPU, by PyTorch, or by MLX
    where that alone is installed. A device that only one of them has decides.

    :raises UsageError: if there is no such backend
    """
    if backend in {"torch", "mlx"}:
        return Selection("mlx" if backend == "mlx" else "torch", "it was asked for")
    if backend != "auto":
        raise UsageError(f"there is no backend {backend!r}; use 'auto', 'torch' or 'mlx'")
    if device in {"auto", "cpu"} and not is_installed("torch") and _mlx_is_here():
        return Selection("mlx", "PyTorch is not installed, and MLX is", install_command("torch"))
    if device != "auto":
        return Selection("mlx" if device == "gpu" else "torch", f"it is the one that runs on {device!r}")
    if (sys.platform, platform.machine()) != ("darwin", "arm64"):
        return Selection("torch", "this is no Apple silicon; PyTorch takes a CUDA device if there is one, else the CPU")
    try:
        mlx.require()
    except MissingDependencyError as error:
        return Selection(
            "torch", f"this is Apple silicon, but only PyTorch's CPU can be used: {error}", install_command("mlx")
        )
    return Selection("mlx", "this is Apple silicon")


def _mlx_is_here() -> bool:
    try:
        mlx.require()
    except (MissingDependencyError, UsageError):
        return False
    return True
