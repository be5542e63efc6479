"""Mimi's convolutional encoder and decoder (SEANet; section 3.3.1 of the paper)."""

import mlx.core as mx

from duplex.backends.mlx.conv import CausalConv1d, CausalConvTranspose1d
from duplex.backends.mlx.linear import elu
from duplex.backends.mlx.module import Module
from duplex.backends.mlx.state import Call
from duplex.checkpoints.mimi_config import SeanetConfig

__all__ = ["SeanetDecoder", "SeanetEncoder"]


class Elu(Module):
    """The non-linearity, in the place that published files count for it."""

    def __call__(self, x: mx.array, call: Call) -> mx.array:
        """Apply it to every element."""
        return elu(x)


class Residual(Module):
    """A bottleneck of two convolutions beside the identity."""

    def __init__(self, channels: int, config: SeanetConfig, depth: int) -> None:
        super().__init__()
        hidden = channels // config.compress
        dilation = config.dilation_base**depth
        self.block: list[Layer] = [
            Elu(),
            CausalConv1d(channels, hidden, config.residual_kernel_size, dilation=dilation),
            Elu(),
            CausalConv1d(hidden, channels, 1),
        ]

    def __call__(self, x: mx.array, call: Call) -> mx.array:
        """Add the block's output to ``[batch, positions, channels]``."""
        y = x
        for layer in self.block:
            y = layer(y, call)
        return x + y


Layer = Elu | Residual | CausalConv1d | CausalConvTranspose1d


class Chain(Module):
    """Layers one after another."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.model = layers

    def __call__(self, x: mx.array, call: Call) -> mx.array:
        """Run all layers over ``[batch, positions, channels]``."""
        for layer in self.model:
            x = layer(x, call)
        return x


class SeanetEncoder(Chain):
    """Audio ``[batch, n * hop, 1]`` to latents ``[batch, n, dimension]``."""

    def __init__(self, config: SeanetConfig) -> None:
        channels = config.n_filters
        layers: list[Layer] = [CausalConv1d(1, channels, config.kernel_size)]
        for ratio in reversed(config.ratios):
            layers += [Residual(channels, config, depth) for depth in range(config.n_residual_layers)]
            layers += [Elu(), CausalConv1d(channels, 2 * channels, 2 * ratio, stride=ratio)]
            channels *= 2
        layers += [Elu(), CausalConv1d(channels, config.dimension, config.last_kernel_size)]
        super().__init__(layers)


class SeanetDecoder(Chain):
    """Latents ``[batch, n, dimension]`` to audio ``[batch, n * hop, 1]``."""

    def __init__(self, config: SeanetConfig) -> None:
        channels = config.n_filters * 2 ** len(config.ratios)
        layers: list[Layer] = [CausalConv1d(config.dimension, channels, config.kernel_size)]
        for ratio in config.ratios:
            layers += [Elu(), CausalConvTranspose1d(channels, channels // 2, ratio)]
            channels //= 2
            layers += [Residual(channels, config, depth) for depth in range(config.n_residual_layers)]
        layers += [Elu(), CausalConv1d(channels, 1, config.last_kernel_size)]
        super().__init__(layers)
