"""Products with a model's weights, and what a transformer does right before and after them.

A layer is a norm, a product, an activation, a product, a scale and a sum. On a GPU a step of one session takes as long
as its weights take to read, and each launch between two products is a pause in that: a few rows are therefore normed,
activated and added up where they are multiplied.
"""

from typing import Literal

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch import kernels
from duplex.backends.torch.norm import Norm
from duplex.backends.torch.onednn import Packed
from duplex.backends.torch.quantize import Quantized

__all__ = ["Activation", "Around", "Projection", "Weight", "linear", "part", "put"]

Weight = Tensor | Quantized | Packed
Activation = Literal["gate", "gelu"]
"""``gate`` halves the outputs: SiLU of the first half times the second."""


@attrs.frozen(eq=False)
class Around:
    """What is done before and after a product, in this order."""

    norm: Norm | None = None
    activation: Activation | None = None
    scale: Tensor | None = None
    """Factors of the outputs, ``[out]``."""
    onto: Tensor | None = None
    """What the outputs are added to, of their shape. It is used up: the sum may lie where it lay."""

    def finish(self, y: Tensor) -> Tensor:
        """Return what becomes of a product ``[..., out]``: as wide, or, gated, half as wide."""
        if self.activation == "gate":
            y = _gated(y)
        elif self.activation == "gelu":
            y = functional.gelu(y)
        if self.scale is not None:
            y = self.scale * y
        return y if self.onto is None else self.onto + y


_NOTHING = Around()


class Projection(nn.Module):
    """A linear map without a bias, ``[..., inputs]`` to ``[..., outputs]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight: nn.Parameter = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor, around: Around = _NOTHING) -> Tensor:
        """Multiply ``x`` by the weight."""
        return linear(x, self.weight, around=around)


def linear(x: Tensor, weight: Weight, bias: Tensor | None = None, *, around: Around = _NOTHING) -> Tensor:
    """Return ``x`` ``[..., in]`` times ``weight`` ``[out, in]``, whatever it is made of, plus ``bias`` ``[out]``.

    ``around`` says what is done to ``x`` before, and to the product after: the result is ``[..., out]``, or half as
    wide if it is gated.
    """
    if kernels.apply_to(x) and not isinstance(weight, Packed):
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        return _by_kernels(rows, weight, bias, around).view(*x.shape[:-1], -1)
    x = x if around.norm is None else around.norm(x)
    if isinstance(weight, Packed):
        return around.finish(weight.multiply(x, bias))
    if isinstance(weight, Quantized):
        product = weight.multiply(x)
        return around.finish(product if bias is None else product + bias)
    return around.finish(functional.linear(x, weight, bias))


def _by_kernels(rows: Tensor, weight: Tensor | Quantized, bias: Tensor | None, around: Around) -> Tensor:
    """Return :func:`linear` of ``rows`` ``[rows, in]``, contiguous: of few rows, and all around it, in one pass.

    A product is rounded before it is added to anything, but where a library adds as it multiplies.
    """
    from duplex.backends.torch.kernels import gemm, gemv  # noqa: PLC0415 -- needs Triton

    onto = None if around.onto is None else around.onto.reshape(len(rows), -1).contiguous()
    if gemv.fits(len(rows), weight):
        return gemv.product(rows, weight, bias, attrs.evolve(around, onto=onto))
    rows = rows if around.norm is None else around.norm(rows)
    bare = bias is None and around.activation is None and around.scale is None
    if isinstance(weight, Quantized):
        y = gemm.product(rows, weight, onto if bare else None)
        y = y if bias is None else y + bias
    elif bare and onto is not None:
        y = onto.addmm_(rows, weight.T)
    else:
        y = functional.linear(rows, weight, bias)
    return y if bare else attrs.evolve(around, onto=onto).finish(y)


def _gated(y: Tensor) -> Tensor:
    if kernels.apply_to(y):
        from duplex.backends.torch.kernels.elementwise import gate  # noqa: PLC0415 -- needs Triton

        return gate(y.contiguous())
    opened, value = y.chunk(2, dim=-1)
    return functional.silu(opened) * value


def part(weight: Weight | tuple[Weight, ...], index: int, parts: int) -> Weight:
    """Return one of so many equal parts of a weight's outputs."""
    if isinstance(weight, tuple):
        return weight[index]
    if isinstance(weight, Packed):
        raise TypeError("a packed weight has no parts; pack each of them")
    return weight.part(index, parts) if isinstance(weight, Quantized) else weight.chunk(parts)[index]


def put(module: nn.Module, name: str, weight: Weight | tuple[Weight, ...]) -> None:
    """Put a weight where a module below ``module`` has its parameter of this name; :func:`linear` takes any kind."""
    owner, _, last = name.rpartition(".")
    holder = module.get_submodule(owner)
    delattr(holder, last)
    setattr(holder, last, nn.Parameter(weight, requires_grad=False) if isinstance(weight, Tensor) else weight)
