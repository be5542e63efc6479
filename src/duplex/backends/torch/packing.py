"""Weights laid out in memory as a step reads them. Their values and shapes stay what they are.

A step multiplies a few rows by each weight, so that reading the weight is all that it costs, and the libraries that
multiply matrices read it best along its longer side.
"""

import torch
from torch import Tensor, nn

from duplex.backends.torch.attention import Attention
from duplex.backends.torch.conv import CausalConv1d, CausalConvTranspose1d
from duplex.backends.torch.quantize import Projection

__all__ = ["pack"]


@torch.no_grad()
def pack(module: nn.Module) -> None:
    """Lay out all weights below a module, once they are loaded."""
    for part in module.modules():
        if isinstance(part, CausalConv1d | CausalConvTranspose1d):
            weight = part.layer[0].weight
            weight.data = _across(weight.data)  # taps before channels, as the windows have them
        elif isinstance(part, Projection) and not part.weight.is_cuda:
            part.weight.data = _along_the_longer_side(part.weight.data)
        elif isinstance(part, Attention) and not part.in_proj_weight.is_cuda:
            part.in_proj_weight.data = _along_the_longer_side(part.in_proj_weight.data)


def _along_the_longer_side(weight: Tensor) -> Tensor:
    """Return a matrix ``[out, in]`` that lies in memory by columns if they are longer than rows."""
    return _across(weight) if weight.shape[0] > weight.shape[1] else weight


def _across(weight: Tensor) -> Tensor:
    """Return a weight that lies in memory as if its last two dimensions were exchanged."""
    return weight.transpose(-1, -2).contiguous().transpose(-1, -2)
