"""What a product does right before and after it in one pass: a prologue (a norm) and an epilogue.

The epilogue is an activation, a scale, and a sum with what the layer adds to.
"""

from typing import Literal

import attrs
from torch import Tensor
from torch.nn import functional

from duplex.backends.torch import kernels
from duplex.backends.torch.norm import Norm

__all__ = ["Activation", "Fusion"]

Activation = Literal["gate", "gelu"]
"""``gate`` halves the outputs: SiLU of the first half times the second."""


@attrs.frozen(eq=False)
class Fusion:
    """The prologue and the epilogue of a product, in this order."""

    norm: Norm | None = None
    activation: Activation | None = None
    scale: Tensor | None = None
    """Factors of the outputs, ``[out]``."""
    onto: Tensor | None = None
    """What the outputs are added to, of their shape. It is used up: the sum may lie where it lay."""

    def epilogue(self, y: Tensor) -> Tensor:
        """Return what becomes of a product ``[..., out]``: as wide, or, gated, half as wide."""
        if self.activation == "gate":
            y = _gated(y)
        elif self.activation == "gelu":
            y = functional.gelu(y)
        if self.scale is not None:
            y = self.scale * y
        return y if self.onto is None else self.onto + y


def _gated(y: Tensor) -> Tensor:
    if kernels.apply_to(y):
        from duplex.backends.torch.kernels.elementwise import gate  # noqa: PLC0415 -- needs Triton

        return gate(y.contiguous())
    opened, value = y.chunk(2, dim=-1)
    return functional.silu(opened) * value
