"""Weights of 4 bits on a CPU, which a step reads as they are: a tenth of what widening them would take.

The numbers are those of :class:`duplex.backends.torch.quantize.Quantized`, in PyTorch's own order, and are widened in
registers. What is multiplied is rounded to bfloat16, and so is the product; sums are made in float32.
"""

from typing import Any

import attrs
import torch
from torch import Tensor

from duplex.backends.torch.quantize import GROUP, Quantized

__all__ = ["PackedInt4"]

OUTPUTS = 16
"""What the outputs are a multiple of."""
_TILES = 1
"""An argument that means something on a GPU only."""


@attrs.frozen(eq=False)
class PackedInt4:
    """A matrix ``[out, in]``."""

    data: Tensor
    """uint8 ``[out, in // 2]``, in the order of the operation."""
    scale: Tensor
    """bfloat16 ``[in // GROUP, out, 2]``: scales, and zeros."""

    @staticmethod
    def possible(weight: Quantized) -> bool:
        """Return whether a weight can be packed, and this processor multiplies it faster than a wide one."""
        there = hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu")
        fast = torch.backends.cpu.get_cpu_capability().startswith("AVX")
        fits = weight.kind == "int4" and weight.data.device.type == "cpu" and len(weight.data) % OUTPUTS == 0
        return there and fast and fits

    @classmethod
    def of(cls, weight: Quantized) -> "PackedInt4":
        """Pack a weight of the kind ``int4``."""
        pack: Any = torch.ops.aten._convert_weight_to_int4pack_for_cpu  # noqa: SLF001 -- has no other name
        levels = torch.cat([weight.data & 15, weight.data >> 4], dim=1)
        scale = torch.stack([weight.scale.T, torch.zeros_like(weight.scale.T)], dim=2)
        return cls(pack(levels.to(torch.int32), _TILES), scale.contiguous())

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return ``x`` ``[..., in]`` times the matrix, and the bias: ``[..., out]``."""
        product: Any = torch.ops.aten._weight_int4pack_mm_for_cpu  # noqa: SLF001 -- has no other name
        rows = x.flatten(0, -2).to(torch.bfloat16).contiguous()
        y = product(rows, self.data, GROUP, self.scale).to(x.dtype)
        y = y.view(*(x.shape[axis] for axis in range(x.ndim - 1)), -1)
        return y if bias is None else y + bias
