"""Weights that stay as they are beside a product of low rank that is learnt (LoRA, arXiv 2106.09685)."""

import attrs
from torch import Tensor
from torch.nn import functional

from duplex.backends.torch.quantize import Quantized

__all__ = ["LowRank"]


@attrs.frozen(eq=False)
class LowRank:
    """A matrix ``[out, in]``: ``base + scaling * (up @ down)``, of one set of weights or of several in its rows.

    Of ``sets`` sets of weights, ``down`` is ``[sets * rank, in]`` and ``up`` ``[out, rank]``, block by block.
    """

    base: Tensor | Quantized
    down: Tensor
    up: Tensor
    scaling: float

    def part(self, index: int, parts: int) -> "LowRank":
        """Return the matrix of one of the sets."""
        base = self.base.part(index, parts) if isinstance(self.base, Quantized) else self.base.chunk(parts)[index]
        return LowRank(base, self.down.chunk(parts)[index], self.up.chunk(parts)[index], self.scaling)

    def multiply(self, x: Tensor) -> Tensor:
        """Return ``x`` ``[..., in]`` times the matrix, ``[..., out]``; the sum itself is never computed."""
        base = self.base.wide(x.dtype) if isinstance(self.base, Quantized) else self.base
        narrow = functional.linear(x, self.down.to(x.dtype))
        return functional.linear(x, base) + self.scaling * functional.linear(narrow, self.up.to(x.dtype))
