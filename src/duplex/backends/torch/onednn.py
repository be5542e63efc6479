"""Weights prepacked for oneDNN: large matrices in the blocks that it reads fastest on a CPU.

A step multiplies a few rows at a time, so that reading the weights is most of what it costs. In blocks, two cores read
a matrix of ten million numbers half again as fast as row by row for one row, and three times as fast for eight.
"""

from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch import torchscript

__all__ = ["SMALLEST", "OneDnnWeight", "onednn_weights_of"]

SMALLEST = 1 << 18
"""Numbers of a matrix below which a product is too short for it."""
FEWEST = 4
"""Rows that oneDNN multiplies in float32 faster than fewer: two cores read a large matrix a quarter faster for them."""
_PRODUCT = f"""
def product(x: Tensor, blocks: Tensor, bias: Optional[Tensor]) -> Tensor:
    none: List[Optional[number]] = []
    rows = x.numel() // x.shape[-1]
    if x.dtype != torch.float32 or rows >= {FEWEST}:
        return torch.ops.mkldnn._linear_pointwise(x, blocks, bias, "none", none, "")
    padded = torch.constant_pad_nd(x.reshape(rows, x.shape[-1]), [0, 0, 0, {FEWEST} - rows])
    product = torch.ops.mkldnn._linear_pointwise(padded, blocks, bias, "none", none, "")
    return product[:rows].view(x.shape[:-1] + [product.shape[-1]])
"""
"""The same as :func:`_product`, which cannot be recorded as it is."""


@attrs.define(eq=False)
class OneDnnWeight:
    """A matrix ``[out, in]`` in a layout of oneDNN's."""

    blocks: Tensor

    @staticmethod
    def possible(weight: Tensor) -> bool:
        """Return whether a weight can be packed, and had better be."""
        available: Any = torch.backends.mkldnn.is_available
        floating = weight.dtype in (torch.float32, torch.bfloat16)
        return weight.device.type == "cpu" and floating and weight.numel() >= SMALLEST and available()

    @classmethod
    def of(cls, weight: Tensor) -> "OneDnnWeight":
        """Pack a weight ``[out, in]``."""
        reorder: Any = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001 -- has no other name
        return cls(reorder(weight.clone(memory_format=torch.contiguous_format), None))  # which may be what it keeps

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return ``x`` ``[..., in]`` times the matrix, and the bias: ``[..., out]``."""
        product = torchscript.compiled(_PRODUCT, "product") if torchscript.tracing() else _product
        return product(x, self.blocks, bias)


def onednn_weights_of(module: nn.Module) -> list[OneDnnWeight]:
    """Return the packed weights of a module and of those below it."""
    held = [value for part in module.modules() for value in vars(part).values()]
    flat = [
        each for value in held for each in (cast("tuple[object, ...]", value) if isinstance(value, tuple) else [value])
    ]
    return [each for each in flat if isinstance(each, OneDnnWeight)]


def _product(x: Tensor, blocks: Tensor, bias: Tensor | None) -> Tensor:
    multiply: Any = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 -- has no other name
    rows = x.numel() // x.shape[-1]
    if x.dtype != torch.float32 or rows >= FEWEST:
        return multiply(x, blocks, bias, "none", [], "")
    padded = functional.pad(x.reshape(rows, -1), (0, 0, 0, FEWEST - rows))
    product = multiply(padded, blocks, bias, "none", [], "")
    return product[:rows].view(*x.shape[:-1], -1)
