"""Prepacking: weights laid out in memory as a step reads them, with unchanged values.

A step multiplies a few rows by each weight, so that reading the weight is most of what it costs: a large one is best
read in blocks (:mod:`duplex.backends.torch.onednn`), a middling one along its longer side.
"""

import torch
from torch import Tensor, nn

from duplex.backends.torch.allocator import trim
from duplex.backends.torch.attention import Attention
from duplex.backends.torch.conv import CausalConv1d, CausalConvTranspose1d
from duplex.backends.torch.cross_attention import CrossAttention
from duplex.backends.torch.depth import StackedAttention
from duplex.backends.torch.linear import Projection, Weight, put
from duplex.backends.torch.onednn import OneDnnWeight
from duplex.backends.torch.quantizer import Codebook

__all__ = ["prepack"]

MIDDLING = 1 << 16
"""Numbers below which it does not matter how a matrix lies."""


@torch.no_grad()
def prepack(module: nn.Module) -> None:
    """Lay out all weights below a module, once they are loaded and, if they are to be, quantized."""
    stacked = {part.out_proj for part in module.modules() if isinstance(part, StackedAttention)}
    for part in module.modules():
        if part in stacked:
            continue
        if isinstance(part, CausalConv1d):
            _prepack_convolution(part)
        elif isinstance(part, CausalConvTranspose1d):
            _prepack_transposed(part)
        elif isinstance(part, StackedAttention):
            _prepack_parts(part, "in_proj_weight", part.sets)
            _prepack_parts(part.out_proj, "weight", part.sets)
        elif isinstance(part, CrossAttention):
            _prepack_parts(part, "in_proj_weight", 3)
        elif isinstance(part, Attention):
            _prepack_matrix(part, "in_proj_weight")
        elif isinstance(part, Projection):
            _prepack_matrix(part, "weight")
        elif isinstance(part, Codebook) and part.entries.device.type == "cpu":
            part.pack()
    _let_go_of_the_file(module)
    trim()


def _let_go_of_the_file(module: nn.Module) -> None:
    """Copy what still lies in the file, so that no page of it is held: memory that is not PyTorch's own."""
    for part in module.modules():
        for name, weight in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            if weight.device.type == "cpu" and not weight.untyped_storage().resizable():
                copied = weight.detach().clone()
                is_weight = isinstance(weight, nn.Parameter)
                setattr(part, name, nn.Parameter(copied, requires_grad=False) if is_weight else copied)


def _prepack_convolution(convolution: CausalConv1d) -> None:
    layer = convolution.layer[0]
    weight = layer.weight.data
    convolution.narrows = convolution.narrows and not weight.is_cuda
    # Taps before channels, as the windows have them, or first of all, so that the matrix is what lies there.
    order, back = ((2, 0, 1), (1, 2, 0)) if convolution.narrows else ((0, 2, 1), (0, 2, 1))
    layer.weight.data = weight.permute(order).contiguous().permute(back)
    matrix = convolution.matrix
    assert isinstance(matrix, Tensor), "packed once"
    if OneDnnWeight.possible(matrix):
        convolution.packed = OneDnnWeight.of(matrix)
        del layer.weight


def _prepack_transposed(convolution: CausalConvTranspose1d) -> None:
    layer = convolution.layer[0]
    if convolution.separate:
        layer.weight.data = _across(layer.weight.data)
        return
    matrix = convolution.matrix
    assert isinstance(matrix, Tensor), "packed once"
    put(convolution, "packed", _prepacked(matrix))
    del layer.weight
    if layer.bias is not None:
        put(convolution, "shifts", layer.bias.repeat(convolution.stride))
        del layer.bias


def _prepack_matrix(module: nn.Module, name: str) -> None:
    weight = getattr(module, name)
    if isinstance(weight, Tensor):
        put(module, name, _prepacked(weight))


def _prepack_parts(module: nn.Module, name: str, count: int) -> None:
    """Pack a weight whose parts are multiplied one at a time."""
    weight = getattr(module, name)
    if isinstance(weight, Tensor) and OneDnnWeight.possible(weight[: len(weight) // count]):
        put(module, name, tuple(OneDnnWeight.of(part) for part in weight.chunk(count)))


def _prepacked(weight: Tensor) -> Weight:
    if weight.device.type != "cpu":
        return weight.contiguous()
    if OneDnnWeight.possible(weight):
        return OneDnnWeight.of(weight)
    return _across(weight) if weight.numel() >= MIDDLING and weight.shape[0] > weight.shape[1] else weight


def _across(weight: Tensor) -> Tensor:
    """Return a weight that lies in memory as if its last two dimensions were exchanged."""
    return weight.transpose(-1, -2).contiguous().transpose(-1, -2)
