"""Weights in the blocks of oneDNN, which reads them fastest there on some CPUs.

A step multiplies a few rows at a time, so that reading the weights is most of what it costs. Some processors multiply
four rows faster than one or two: fewer may be filled up. Which is best is chosen by timing
(:mod:`duplex.backends.torch.products`).
"""

import functools
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch import torchscript
from duplex.backends.torch.quantize import Quantized

__all__ = ["OneDnnInt8", "OneDnnWeight", "onednn_weights_of"]

_PRODUCT = """
def product(x: Tensor, blocks: Tensor, bias: Optional[Tensor], fewest: int) -> Tensor:
    none: List[Optional[number]] = []
    rows = x.numel() // x.shape[-1]
    if rows >= fewest:
        return torch.ops.mkldnn._linear_pointwise(x, blocks, bias, "none", none, "")
    padded = torch.constant_pad_nd(x.reshape(rows, x.shape[-1]), [0, 0, 0, fewest - rows])
    product = torch.ops.mkldnn._linear_pointwise(padded, blocks, bias, "none", none, "")
    return product[:rows].view(x.shape[:-1] + [product.shape[-1]])
"""
"""The same as :func:`_product`, which cannot be recorded as it is."""
_INT8_PRODUCT = """
def product(x: Tensor, blocks: Tensor, scale: Tensor, zeros: Tensor, fewest: int) -> Tensor:
    none: List[Optional[number]] = []
    rows = x.shape[0]
    if rows < fewest:
        x = torch.constant_pad_nd(x, [0, 0, 0, fewest - rows])
    product = torch.ops.onednn.qlinear_pointwise(x, 1.0, 0, blocks, scale, zeros, None, 1.0, 0, 6, "none", none, "")
    return product[:rows]
"""
"""The same as :func:`_int8_product`; 6 is the number of float32."""


@attrs.define(eq=False)
class OneDnnWeight:
    """A matrix ``[out, in]``, float32 or bfloat16; fewer rows than ``fewest`` are filled up to it."""

    blocks: Tensor
    fewest: int = 1

    @classmethod
    def of(cls, weight: Tensor, fewest: int = 1) -> "OneDnnWeight":
        """Pack a weight ``[out, in]``."""
        reorder: Any = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001 -- has no other name
        plain = weight.clone(memory_format=torch.contiguous_format)  # which may be what it keeps
        return cls(reorder(plain, None), fewest)

    @staticmethod
    @functools.cache
    def available(dtype: torch.dtype) -> bool:
        """Return whether weights can be packed here: not every processor has what bfloat16 needs."""
        try:
            with torch.inference_mode(mode=False):
                OneDnnWeight.of(torch.zeros(64, 64, dtype=dtype)).multiply(torch.zeros(1, 64, dtype=dtype))
        except (AttributeError, RuntimeError):
            return False
        return True

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return ``x`` ``[..., in]`` times the matrix, and the bias: ``[..., out]``."""
        product = torchscript.compiled(_PRODUCT, "product") if torchscript.tracing() else _product
        return product(x, self.blocks, bias, self.fewest)


@attrs.define(eq=False)
class OneDnnInt8:
    """A matrix ``[out, in]`` of whole numbers with a scale for each output, as :class:`Quantized` has it."""

    blocks: Tensor
    scale: Tensor
    """float32 ``[out]``"""
    zeros: Tensor
    """int64 ``[out]``, as the operation wants them."""
    fewest: int = 1

    @classmethod
    def of(cls, weight: Quantized, fewest: int = 1) -> "OneDnnInt8":
        """Pack a weight of the kind ``int8``."""
        prepack: Any = torch.ops.onednn.qlinear_prepack
        zeros = torch.zeros(len(weight.data), dtype=torch.int64)
        return cls(prepack(weight.data.clone(), None), weight.scale, zeros, fewest)

    @staticmethod
    @functools.cache
    def available() -> bool:
        """Return whether this PyTorch has the operation, and multiplies the largest numbers exactly.

        Without instructions for it, sums of products may saturate.
        """
        data = torch.full((16, 64), 127, dtype=torch.int8)
        data[::2] = -127
        try:
            with torch.inference_mode(mode=False):
                packed = OneDnnInt8.of(Quantized("int8", data, torch.ones(16)))
                return torch.equal(_int8_product(data, packed.blocks, packed.scale, packed.zeros, 1), _exact(data))
        except (AttributeError, RuntimeError):
            return False

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return ``x`` ``[..., in]``, each row rounded too, times the matrix, and the bias: ``[..., out]``."""
        rounded, size = Quantized.rounded(x)
        product = torchscript.compiled(_INT8_PRODUCT, "product") if torchscript.tracing() else _int8_product
        y = (product(rounded, self.blocks, self.scale, self.zeros, self.fewest) * size).to(x.dtype)
        y = y.view(*(x.shape[axis] for axis in range(x.ndim - 1)), -1)
        return y if bias is None else y + bias


def onednn_weights_of(module: nn.Module) -> list[OneDnnWeight | OneDnnInt8]:
    """Return the packed weights of a module and of those below it."""
    held = [value for part in module.modules() for value in vars(part).values()]
    flat = [
        each for value in held for each in (cast("tuple[object, ...]", value) if isinstance(value, tuple) else [value])
    ]
    bases = [getattr(each, "base", each) for each in flat]  # of those with adapters beside them
    return [each for each in bases if isinstance(each, OneDnnWeight | OneDnnInt8)]


def _product(x: Tensor, blocks: Tensor, bias: Tensor | None, fewest: int) -> Tensor:
    multiply: Any = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 -- has no other name
    rows = x.numel() // x.shape[-1]
    if rows >= fewest:
        return multiply(x, blocks, bias, "none", [], "")
    padded = functional.pad(x.reshape(rows, -1), (0, 0, 0, fewest - rows))
    product = multiply(padded, blocks, bias, "none", [], "")
    return product[:rows].view(*x.shape[:-1], -1)


def _int8_product(x: Tensor, blocks: Tensor, scale: Tensor, zeros: Tensor, fewest: int) -> Tensor:
    multiply: Any = torch.ops.onednn.qlinear_pointwise
    rows = x.shape[0]
    x = functional.pad(x, (0, 0, 0, fewest - rows)) if rows < fewest else x
    return multiply(x, 1.0, 0, blocks, scale, zeros, None, 1.0, 0, torch.float32, "none", [], "")[:rows]


def _exact(data: Tensor) -> Tensor:
    return (data.long() @ data.long().T).float()
