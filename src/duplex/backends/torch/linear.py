"""Linear layers over weights of any kind, with a fused prologue and epilogue.

A layer is a norm, a product, an activation, a product, a scale and a sum. On a GPU a step of one session takes as long
as its weights take to read, and each launch between two products is a pause in that: a few rows are therefore normed,
activated and added up where they are multiplied.
"""

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch import kernels
from duplex.backends.torch.adapted import Adapted
from duplex.backends.torch.fusion import Fusion
from duplex.backends.torch.int4 import PackedInt4
from duplex.backends.torch.low_rank import LowRank
from duplex.backends.torch.onednn import OneDnnInt8, OneDnnWeight
from duplex.backends.torch.quantize import Quantized

__all__ = ["Packed", "Projection", "Weight", "linear", "part", "put"]

Packed = OneDnnWeight | OneDnnInt8 | PackedInt4
"""Weights in an order that only a product knows, on a CPU."""
Weight = Tensor | Quantized | Packed | LowRank | Adapted
_NOTHING = Fusion()


class Projection(nn.Module):
    """A linear map without a bias, ``[..., inputs]`` to ``[..., outputs]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight: nn.Parameter = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor, fusion: Fusion = _NOTHING) -> Tensor:
        """Multiply ``x`` by the weight."""
        return linear(x, self.weight, fusion=fusion)


def linear(x: Tensor, weight: Weight, bias: Tensor | None = None, *, fusion: Fusion = _NOTHING) -> Tensor:
    """Return ``x`` ``[..., in]`` times ``weight`` ``[out, in]``, whatever it is made of, plus ``bias`` ``[out]``.

    ``fusion`` says what is done to ``x`` before, and to the product after: the result is ``[..., out]``, or half as
    wide if it is gated.
    """
    if isinstance(weight, Adapted):
        return _adapted(x, weight, bias, fusion)
    if kernels.apply_to(x) and not isinstance(weight, Packed | LowRank):
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        return _by_kernels(rows, weight, bias, fusion).view(*x.shape[:-1], -1)
    x = x if fusion.norm is None else fusion.norm(x)
    if isinstance(weight, Packed):
        return fusion.epilogue(weight.multiply(x, bias))
    if isinstance(weight, Quantized | LowRank):
        product = weight.multiply(x)
        return fusion.epilogue(product if bias is None else product + bias)
    return fusion.epilogue(functional.linear(x, weight, bias))


def _adapted(x: Tensor, weight: Adapted, bias: Tensor | None, fusion: Fusion) -> Tensor:
    """Return :func:`linear` of a weight with adapters: as without any, while no row has one."""
    if weight.added.rows.numbers is None:
        return linear(x, weight.base, bias, fusion=fusion)
    x = x if fusion.norm is None else fusion.norm(x)
    return fusion.epilogue(weight.added.added_to(linear(x, weight.base, bias), x))


def _by_kernels(rows: Tensor, weight: Tensor | Quantized, bias: Tensor | None, fusion: Fusion) -> Tensor:
    """Return :func:`linear` of ``rows`` ``[rows, in]``, contiguous: of few rows, and all fusion it, in one pass.

    A product is rounded before it is added to anything, but where a library adds as it multiplies.
    """
    from duplex.backends.torch.kernels import gemm, gemv  # noqa: PLC0415 -- needs Triton

    onto = None if fusion.onto is None else fusion.onto.reshape(len(rows), -1).contiguous()
    if gemv.fits(len(rows), weight):
        return gemv.product(rows, weight, bias, attrs.evolve(fusion, onto=onto))
    rows = rows if fusion.norm is None else fusion.norm(rows)
    bare = bias is None and fusion.activation is None and fusion.scale is None
    if isinstance(weight, Quantized):
        y = gemm.product(rows, weight, onto if bare else None)
        y = y if bias is None else y + bias
    elif bare and onto is not None:
        y = onto.addmm_(rows, weight.T)
    else:
        y = functional.linear(rows, weight, bias)
    return y if bare else attrs.evolve(fusion, onto=onto).epilogue(y)


def part(weight: Weight | tuple[Weight, ...], index: int, parts: int) -> Weight:
    """Return one of so many equal parts of a weight's outputs."""
    if isinstance(weight, tuple):
        return weight[index]
    if isinstance(weight, Packed | Adapted):
        raise TypeError("a packed or adapted weight has no parts; pack or adapt each of them")
    return weight.part(index, parts) if isinstance(weight, Quantized | LowRank) else weight.chunk(parts)[index]


def put(module: nn.Module, name: str, weight: Weight | tuple[Weight, ...]) -> None:
    """Put a weight where a module below ``module`` has its parameter of this name; :func:`linear` takes any kind."""
    owner, _, last = name.rpartition(".")
    holder = module.get_submodule(owner)
    delattr(holder, last)
    setattr(holder, last, nn.Parameter(weight, requires_grad=False) if isinstance(weight, Tensor) else weight)
