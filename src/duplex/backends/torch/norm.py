"""The norms of the two kinds of transformer, which :mod:`duplex.backends.torch.fusion` fuses with products."""

from typing import Protocol

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch import kernels

__all__ = ["LayerNorm", "Norm", "NormWeights", "RmsNorm"]


@attrs.frozen(eq=False)
class NormWeights:
    """What a norm multiplies by and adds, ``dim`` values each, and what keeps it from dividing by zero."""

    weight: Tensor
    bias: Tensor | None
    """``None`` where the mean stays: a root mean square norm."""
    epsilon: float


class Norm(Protocol):
    """Normalizes ``[..., dim]``."""

    @property
    def weights(self) -> NormWeights:
        """What a kernel must know to compute it."""
        ...

    def __call__(self, input: Tensor, /) -> Tensor:  # noqa: A002 -- torch's name
        """Normalize ``[..., dim]``."""
        ...


class LayerNorm(nn.LayerNorm):
    """Mimi's norm: mean and variance, with a bias."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-5)  # pyright: ignore[reportUnknownMemberType] -- torch leaves its arguments untyped

    @property
    def weights(self) -> NormWeights:
        """See :class:`Norm`."""
        return NormWeights(self.weight, self.bias, self.eps)


class RmsNorm(nn.Module):
    """Root mean square norm, computed in float32; its weight is ``alpha`` ``[1, 1, dim]`` as published."""

    EPSILON = 1e-8

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha: nn.Parameter = nn.Parameter(torch.ones(1, 1, dim))

    @property
    def weights(self) -> NormWeights:
        """See :class:`Norm`."""
        return NormWeights(self.alpha, None, self.EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``[..., dim]``."""
        if kernels.apply_to(x):
            from duplex.backends.torch.kernels.elementwise import norm  # noqa: PLC0415 -- needs Triton

            return norm(x.contiguous(), self.alpha, self.EPSILON)
        return functional.rms_norm(x.float(), x.shape[-1:], self.alpha[0, 0].float(), self.EPSILON).to(x.dtype)
