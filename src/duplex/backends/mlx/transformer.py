"""The two kinds of transformer: Mimi's (layer norm, GELU, layer scale) and the temporal one (RMS norm, gated SiLU)."""

import mlx.core as mx
from mlx import nn

from duplex.backends.mlx.attention import Attention, AttentionWindow, RingCache
from duplex.backends.mlx.cross_attention import CrossAttention
from duplex.backends.mlx.linear import Linear, gelu, silu
from duplex.backends.mlx.module import Module
from duplex.backends.mlx.state import Call
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig

__all__ = ["GatedFeedForward", "MimiTransformer", "RmsNorm", "TemporalTransformer"]


class RmsNorm(Module):
    """Root mean square norm, computed in float32."""

    EPSILON = 1e-8

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight: mx.array = mx.ones(dim)

    def __call__(self, x: mx.array) -> mx.array:
        """Normalize ``[..., dim]``."""
        return mx.fast.rms_norm(x.astype(mx.float32), self.weight.astype(mx.float32), self.EPSILON).astype(x.dtype)


class GatedFeedForward(Module):
    """SiLU-gated feed-forward without biases; ``linear_in`` holds the gate's half first."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear_in: Linear = Linear(dim, 2 * hidden)
        self.linear_out: Linear = Linear(hidden, dim)

    def __call__(self, x: mx.array) -> mx.array:
        """Transform ``[..., dim]``."""
        gate, value = mx.split(self.linear_in(x), 2, axis=-1)
        return self.linear_out(silu(gate) * value)


class LayerScale(Module):
    """A learnt factor per channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale: mx.array = mx.ones(dim)

    def __call__(self, x: mx.array) -> mx.array:
        """Scale ``[..., dim]``."""
        return self.scale * x


class MimiLayer(Module):
    """One layer of Mimi's transformers."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1: nn.LayerNorm = nn.LayerNorm(dim, eps=1e-5)
        self.self_attn: Attention = Attention(dim, heads)
        self.layer_scale_1: LayerScale = LayerScale(dim)
        self.norm2: nn.LayerNorm = nn.LayerNorm(dim, eps=1e-5)
        self.linear1: Linear = Linear(dim, hidden)
        self.linear2: Linear = Linear(hidden, dim)
        self.layer_scale_2: LayerScale = LayerScale(dim)

    def __call__(self, x: mx.array, window: AttentionWindow, index: int) -> mx.array:
        """Transform ``[batch, positions, dim]``."""
        x = x + self.layer_scale_1(self.self_attn(self.norm1(x), window, index))
        return x + self.layer_scale_2(self.linear2(gelu(self.linear1(self.norm2(x)))))


class MimiTransformer(Module):
    """The transformer of Mimi's encoder or decoder, ``[batch, positions, dim]`` to the same."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        shape = config.transformer
        layers = [MimiLayer(shape.d_model, shape.num_heads, shape.dim_feedforward) for _ in range(shape.num_layers)]
        self.transformer: dict[str, list[MimiLayer]] = {"layers": layers}
        self.ring: RingCache = RingCache(
            layers=shape.num_layers,
            heads=shape.num_heads,
            head_dim=shape.d_model // shape.num_heads,
            context=shape.context,
            period=shape.max_period,
            positions_per_frame=config.positions_per_frame,
            halves=shape.positional_embedding == "rope_concat",
        )

    def __call__(self, x: mx.array, call: Call) -> mx.array:
        """Transform the next positions of every stream."""
        window = self.ring.window(call, x.shape[1])
        for index, layer in enumerate(self.transformer["layers"]):
            x = layer(x, window, index)
        return x


class TemporalLayer(Module):
    """One layer of the temporal transformer."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.norm1: RmsNorm = RmsNorm(dim)
        self.self_attn: Attention = Attention(dim, config.num_heads, config.kv_repeat)
        if config.cross_attention:
            self.norm_cross: nn.LayerNorm = nn.LayerNorm(dim, eps=1e-5)
            self.cross_attention: CrossAttention = CrossAttention(dim, config.num_heads)
        self.crossing: bool = config.cross_attention
        self.norm2: RmsNorm = RmsNorm(dim)
        self.gating: GatedFeedForward = GatedFeedForward(dim, config.feedforward)

    def __call__(self, x: mx.array, window: AttentionWindow, index: int) -> mx.array:
        """Transform ``[batch, positions, dim]``."""
        x = x + self.self_attn(self.norm1(x), window, index)
        if self.crossing:
            x = x + self.cross_attention(self.norm_cross(x), window.call, index)
        return x + self.gating(self.norm2(x))


class TemporalTransformer(Module):
    """The transformer over time, ``[batch, positions, dim]`` to the same (section 3.2 of the paper)."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.layers: list[TemporalLayer] = [TemporalLayer(config) for _ in range(config.num_layers)]
        self.ring: RingCache = RingCache(
            layers=config.num_layers,
            heads=config.num_heads // config.kv_repeat,
            head_dim=config.dim // config.num_heads,
            context=config.context,
            period=config.max_period,
            positions_per_frame=1,
            halves=config.positional_embedding == "rope_concat",
        )

    def __call__(self, x: mx.array, call: Call) -> mx.array:
        """Transform the next positions of every stream."""
        window = self.ring.window(call, x.shape[1])
        for index, layer in enumerate(self.layers):
            x = layer(x, window, index)
        return x
