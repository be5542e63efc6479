"""Weight initialization: residual projections are scaled down with the number of layers."""

import torch
from torch import nn

from duplex.backends.torch.attention import Attention
from duplex.backends.torch.depth import StackedAttention
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.linear import Projection
from duplex.backends.torch.transformer import GatedFeedForward

__all__ = ["initialize"]

EMBEDDING_SIZE = 0.1


@torch.no_grad()
def initialize(model: LanguageModel, seed: int) -> None:
    """Initialize all weights of a language model."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | Projection):
            module.weight.normal_(std=module.weight.shape[1] ** -0.5, generator=generator)
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(std=EMBEDDING_SIZE, generator=generator)
        elif isinstance(module, Attention | StackedAttention):
            module.in_proj_weight.normal_(std=module.in_proj_weight.shape[1] ** -0.5, generator=generator)
    depths = [model.transformer] if model.depth is None else [model.transformer, model.depth]
    for part in depths:
        for module in part.modules():
            # Two in each layer add to the residual stream.
            if isinstance(module, Attention | StackedAttention):
                module.out_proj.weight.mul_((2 * len(part.layers)) ** -0.5)
            elif isinstance(module, GatedFeedForward):
                module.linear_out.weight.mul_((2 * len(part.layers)) ** -0.5)
