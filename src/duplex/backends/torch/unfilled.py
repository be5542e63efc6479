"""Modules as they are declared, before their weights are read: on the meta device, and with nothing drawn for them.

A tensor there has no numbers; to draw them all the same takes longer than to declare it, and for embeddings PyTorch
loads its compiler, which takes longer than everything else a command begins with.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["unfilled"]

FILLING = nn.init.__name__


class _Undrawn(TorchFunctionMode):
    """Leaves tensors as they are where :mod:`torch.nn.init` would draw their numbers."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", None) == FILLING:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


@contextmanager
def unfilled() -> Generator[None]:
    """Declare modules in the block that have shapes and no numbers."""
    with torch.device("meta"), _Undrawn():
        yield
