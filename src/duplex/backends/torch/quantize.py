"""Weights of 8 and 4 bits, for models whose steps take as long as their weights take to read.

Kinds, all symmetric and without a calibration: ``int8``, a scale for each output; ``fp8`` (E4M3), likewise, for GPUs
that have it; ``int4``, a scale for each :data:`GROUP` inputs of an output. What a step reads little of keeps its
precision: embeddings, norms, and the heads that make logits.
"""

from typing import Literal

import attrs
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["GROUP", "Kind", "Quantized", "quantizable"]

Kind = Literal["int8", "fp8", "int4"]
GROUP = 32
"""Inputs that share a scale in ``int4``."""
_LARGEST = {"int8": 127.0, "fp8": 448.0, "int4": 7.0}
_SMALLEST = 1e-12
_OFFSET = 8
_AT_ONCE = 2048
"""Outputs that are rounded at a time: in float32, which no whole weight needs the memory for."""
_KEPT = ("emb", "text_linear", "linears", "norm", "extra_heads", "condition_provider")
"""Parts of names whose weights stay as they are."""


@attrs.frozen(eq=False)
class Quantized:
    """A matrix ``[out, in]`` in few bits."""

    kind: Kind
    data: Tensor
    """int8 or float8 ``[out, in]``; for ``int4`` uint8 ``[out, in // 2]``, of columns c (low half) and c + in // 2."""
    scale: Tensor
    """float32 ``[out]``; for ``int4`` bfloat16 ``[out, in // GROUP]``."""

    @classmethod
    def of(cls, weight: Tensor, kind: Kind) -> "Quantized":
        """Round a weight ``[out, in]``."""
        pieces = [weight[start : start + _AT_ONCE] for start in range(0, len(weight), _AT_ONCE)]
        parts = [_rounded_to_4_bits(piece) if kind == "int4" else _rounded_to_8_bits(piece, kind) for piece in pieces]
        return cls(kind, torch.cat([data for data, _ in parts]), torch.cat([scale for _, scale in parts]))

    def part(self, index: int, parts: int) -> "Quantized":
        """Return one of so many equal parts of the outputs."""
        size = len(self.data) // parts
        rows = slice(index * size, (index + 1) * size)
        return Quantized(self.kind, self.data[rows], self.scale[rows])

    def wide(self, dtype: torch.dtype) -> Tensor:
        """Return the matrix it stands for, ``[out, in]``."""
        if self.kind != "int4":
            return (self.data.float() * self.scale[:, None]).to(dtype)
        halves = torch.cat([self.data & 15, self.data >> 4], dim=1).float() - _OFFSET
        grouped = halves.view(len(halves), -1, GROUP) * self.scale.float()[:, :, None]
        return grouped.flatten(1).to(dtype)

    def multiply(self, x: Tensor) -> Tensor:
        """Return ``x`` ``[..., in]`` times the matrix, ``[..., out]``."""
        if self.kind == "int8" and x.device.type == "cpu":
            return self._multiply_rounded(x)
        return functional.linear(x, self.wide(x.dtype))

    @staticmethod
    def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows of ``x`` as int8 ``[rows, in]``, each with its scale, float32 ``[rows, 1]``."""
        rows = x.flatten(0, -2).float()
        size = rows.abs().amax(dim=1, keepdim=True).clamp(min=_SMALLEST) / _LARGEST["int8"]
        return (rows / size).round().to(torch.int8), size

    def _multiply_rounded(self, x: Tensor) -> Tensor:
        """Multiply whole numbers: ``x`` is rounded too, each row by itself."""
        rounded, size = self.rounded(x)
        product = torch.ops.aten._int_mm(rounded, self.data.T)  # noqa: SLF001 -- has no other name
        product = (product * (size * self.scale)).to(x.dtype)
        return product.view(*(x.shape[axis] for axis in range(x.ndim - 1)), -1)


def quantizable(name: str, shape: torch.Size) -> bool:
    """Return whether the weight of this name is one that a quantized model holds in few bits."""
    return len(shape) == 2 and not any(kept in name for kept in _KEPT) and shape[1] % (2 * GROUP) == 0  # noqa: PLR2004


def _rounded_to_8_bits(weight: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    scale = weight.abs().amax(dim=1).float().clamp(min=1e-12) / _LARGEST[kind]
    data = weight.float() / scale[:, None]
    return data.to(torch.float8_e4m3fn) if kind == "fp8" else data.round().to(torch.int8), scale


def _rounded_to_4_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    grouped = weight.float().view(len(weight), -1, GROUP)
    scale = (grouped.abs().amax(dim=-1).clamp(min=1e-12) / _LARGEST["int4"]).to(torch.bfloat16)
    levels = (grouped / scale.float()[:, :, None]).round().clamp(-_OFFSET, _OFFSET - 1).flatten(1) + _OFFSET
    low, high = levels.to(torch.uint8).chunk(2, dim=1)
    return low | (high << 4), scale
