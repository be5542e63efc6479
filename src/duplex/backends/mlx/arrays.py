"""Between MLX and the rest, with types: MLX leaves those of many of its arguments open."""

from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten  # pyright: ignore[reportUnknownVariableType] -- MLX leaves it untyped
from numpy.typing import NDArray

from duplex.backends.mlx.module import Module

__all__ = [
    "evaluate",
    "from_numpy",
    "named_modules",
    "parameters",
    "save",
    "shaped",
    "taken",
    "to_numpy",
    "whole_number",
]

_REFUSED = "[write]"
"""What MLX's message begins with where a file could not be written to its end."""


def evaluate(*values: Any) -> None:
    """Compute arrays, or lists and dictionaries of them."""
    mx.eval(*values)  # pyright: ignore[reportUnknownMemberType] -- MLX leaves it untyped


def shaped(x: mx.array, *shape: int) -> mx.array:
    """Return an array in another shape."""
    return x.reshape(shape)  # pyright: ignore[reportUnknownMemberType] -- MLX leaves it untyped


def from_numpy(values: NDArray[Any]) -> mx.array:
    """Return numbers as an array; 64-bit whole numbers, which tokens need not be, with 32 bits."""
    if values.dtype == np.int64:
        values = values.astype(np.int32)
    return mx.array(cast("Any", values))


def to_numpy(array: mx.array) -> NDArray[Any]:
    """Return a copy of what has been computed."""
    return np.array(cast("Any", array))


def whole_number(array: mx.array) -> int:
    """Return the one number of an array."""
    return int(cast("int", array.item()))


def save(path: Path, arrays: dict[str, mx.array], metadata: dict[str, str]) -> None:
    """Write a safetensors file; its name must end so.

    :raises OSError: if the disk refuses, which MLX tells without the system's reason
    """
    try:
        mx.save_safetensors(str(path), arrays, metadata)  # pyright: ignore[reportUnknownMemberType] -- MLX leaves it untyped
    except RuntimeError as error:
        if not str(error).startswith(_REFUSED):
            raise
        raise OSError("not all of it; make room or choose another folder") from error


def parameters(module: Module) -> list[tuple[str, mx.array]]:
    """Return all weights below a module, by their full names."""
    return cast("list[tuple[str, mx.array]]", tree_flatten(cast("Any", module.parameters())))


def named_modules(root: Module) -> list[tuple[str, Any]]:
    """Return all modules below one, itself included, by their full names."""
    return cast("list[tuple[str, Any]]", root.named_modules())


def taken(module: Module, name: str) -> mx.array:
    """Return a weight of a module, which keeps it no longer."""
    return cast("dict[str, mx.array]", module).pop(name)
