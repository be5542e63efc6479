"""Weight initialization that preserves the variance of the signal through all layers of the codec.

PyTorch's default initialization shrinks the signal at every convolution; over the depth of a codec the output starts
as silence, and the logarithmic losses do not move for thousands of steps.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from duplex.backends.torch.attention import Attention
from duplex.backends.torch.linear import Projection
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.seanet import Residual
from duplex.backends.torch.state import Call

__all__ = ["initialize", "normalize", "plain_weights"]

SPEECH_RMS = 0.06
ELU_GAIN = 1.25
"""Restores unit variance of a unit normal signal after an ELU."""
RESIDUAL_GAIN = 0.5
DIRECTION_SIZE = 0.05
SILENCE_SIZE = 0.1
CALIBRATION_POSITIONS = 50


@torch.no_grad()
def initialize(mimi: Mimi, seed: int) -> None:
    """Initialize all weights of a codec."""
    generator = torch.Generator().manual_seed(seed)
    for module in mimi.modules():
        if isinstance(module, nn.Conv1d):
            _fill(module, module.weight[0].numel(), generator)
        elif isinstance(module, nn.ConvTranspose1d):
            # Each output sample gets kernel / stride taps of every channel of its group.
            taps = module.kernel_size[0] / module.stride[0]
            _fill(module, taps * module.in_channels / module.groups, generator)
        elif isinstance(module, nn.Linear | Projection):
            module.weight.normal_(std=module.weight.shape[1] ** -0.5, generator=generator)
        elif isinstance(module, Attention):
            module.in_proj_weight.normal_(std=module.in_proj_weight.shape[1] ** -0.5, generator=generator)
        elif isinstance(module, Residual):
            _scale(module.block[-1], RESIDUAL_GAIN)
    _scale(mimi.encoder.model[0], 1 / (SPEECH_RMS * ELU_GAIN))
    for layer in mimi.encoder.modules():
        # In digital silence a layer norm would have no variance to normalize by, and gradients would explode.
        if isinstance(layer, nn.Conv1d) and layer.bias is not None:
            layer.bias.normal_(std=SILENCE_SIZE, generator=generator)
    for half in (mimi.quantizer.rvq_first, mimi.quantizer.rvq_rest):
        half.input_proj.weight.mul_(1 / ELU_GAIN)
        half.output_proj.weight.mul_(1 / ELU_GAIN / math.sqrt(2))
    positions = torch.randn(1, CALIBRATION_POSITIONS, mimi.config.seanet.dimension, generator=generator)
    made = mimi.decoder(positions, Call())
    _scale(mimi.decoder.model[-1], float(SPEECH_RMS / made.square().mean().sqrt()))


@torch.no_grad()
def normalize(codec: nn.Module) -> None:
    """Apply weight normalization to a codec's convolutions, or a part's, so that all of them learn at a similar rate.

    The directions' elements get the same RMS in every layer, because the angle of an optimizer's step depends on it.
    """
    for module in codec.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d) and module.bias is not None:
            weight_norm(module, dim=1 if isinstance(module, nn.ConvTranspose1d) else 0)
            parts: Any = module
            direction: Tensor = parts.parametrizations.weight.original1
            direction.mul_(DIRECTION_SIZE / direction.square().mean().sqrt())


@torch.no_grad()
def plain_weights(mimi: Mimi) -> dict[str, Tensor]:
    """Return a codec's tensors without parametrizations, by the names that inference uses."""
    tensors = {name: tensor for name, tensor in mimi.state_dict().items() if ".parametrizations." not in name}
    for name, module in cast("Any", mimi).named_modules():  # torch leaves its type open
        if parametrize.is_parametrized(module, "weight"):
            tensors[f"{name}.weight"] = module.weight
    return tensors


def _scale(layer: nn.Module, factor: float) -> None:
    """Multiply a streaming convolution's weights."""
    for weight in layer.parameters():
        weight.mul_(factor)


def _fill(layer: nn.Conv1d | nn.ConvTranspose1d, inputs: float, generator: torch.Generator) -> None:
    layer.weight.normal_(std=ELU_GAIN * inputs**-0.5, generator=generator)
    if layer.bias is not None:
        layer.bias.zero_()
