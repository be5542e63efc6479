"""Mimi's convolutional encoder and decoder (SEANet; section 3.3.1 of the paper)."""

from torch import Tensor, nn

from duplex.backends.torch.conv import CausalConv1d, CausalConvTranspose1d
from duplex.backends.torch.state import Call
from duplex.checkpoints.mimi_config import SeanetConfig

__all__ = ["SeanetDecoder", "SeanetEncoder"]


class Chain(nn.Module):
    """Layers one after another. An activation is left to the layer after it, which is given the call."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.model: nn.ModuleList = nn.ModuleList(layers)

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """Run all layers over ``[batch, positions, channels]``."""
        return _run(self.model, x, call)


class Residual(nn.Module):
    """A bottleneck of two convolutions beside the identity."""

    def __init__(self, channels: int, config: SeanetConfig, depth: int) -> None:
        super().__init__()
        hidden = channels // config.compress
        dilation = config.dilation_base**depth
        self.block: nn.ModuleList = nn.ModuleList(
            [
                nn.ELU(),
                CausalConv1d(channels, hidden, config.residual_kernel_size, dilation=dilation),
                nn.ELU(),
                CausalConv1d(hidden, channels, 1),
            ]
        )

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """Add the block's output to ``[batch, positions, channels]``."""
        return x + _run(self.block, x, call)


def _run(layers: nn.ModuleList, x: Tensor, call: Call) -> Tensor:
    activated = False
    for layer in layers:
        if isinstance(layer, nn.ELU):
            activated = True
        else:
            x, activated = layer(x, call, activated=True) if activated else layer(x, call), False
    assert not activated, "an activation is left to the layer after it"
    return x


class SeanetEncoder(Chain):
    """Audio ``[batch, n * hop, 1]`` to latents ``[batch, n, dimension]``."""

    def __init__(self, config: SeanetConfig) -> None:
        channels = config.n_filters
        layers: list[nn.Module] = [CausalConv1d(1, channels, config.kernel_size)]
        for ratio in reversed(config.ratios):
            layers += [Residual(channels, config, depth) for depth in range(config.n_residual_layers)]
            layers += [nn.ELU(), CausalConv1d(channels, 2 * channels, 2 * ratio, stride=ratio)]
            channels *= 2
        layers += [nn.ELU(), CausalConv1d(channels, config.dimension, config.last_kernel_size)]
        super().__init__(layers)


class SeanetDecoder(Chain):
    """Latents ``[batch, n, dimension]`` to audio ``[batch, n * hop, 1]``."""

    def __init__(self, config: SeanetConfig) -> None:
        channels = config.n_filters * 2 ** len(config.ratios)
        layers: list[nn.Module] = [CausalConv1d(config.dimension, channels, config.kernel_size)]
        for ratio in config.ratios:
            layers += [nn.ELU(), CausalConvTranspose1d(channels, channels // 2, ratio)]
            channels //= 2
            layers += [Residual(channels, config, depth) for depth in range(config.n_residual_layers)]
        layers += [nn.ELU(), CausalConv1d(channels, 1, config.last_kernel_size)]
        super().__init__(layers)
