"""The two kinds of transformer: Mimi's (layer norm, GELU, layer scale) and the temporal one (RMS norm, gated SiLU)."""

import torch
from torch import Tensor, nn

from duplex.backends.torch.attention import Attention, AttentionWindow, RingCache
from duplex.backends.torch.cross_attention import CrossAttention
from duplex.backends.torch.fusion import Fusion
from duplex.backends.torch.linear import Projection
from duplex.backends.torch.norm import LayerNorm, Norm, RmsNorm
from duplex.backends.torch.state import Call
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig

__all__ = ["GatedFeedForward", "MimiTransformer", "TemporalTransformer"]


class GatedFeedForward(nn.Module):
    """SiLU-gated feed-forward without biases, beside the identity; ``linear_in`` holds the gate's half first."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear_in: Projection = Projection(dim, 2 * hidden)
        self.linear_out: Projection = Projection(hidden, dim)

    def forward(self, x: Tensor, norm: Norm) -> Tensor:
        """Add to ``x`` ``[..., dim]``, which is used up, what becomes of it, normed."""
        hidden = self.linear_in(x, Fusion(norm=norm, activation="gate"))
        return self.linear_out(hidden, Fusion(onto=x))


class LayerScale(nn.Module):
    """A learnt factor per channel."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.scale: nn.Parameter = nn.Parameter(torch.full((dim,), initial))


class MimiLayer(nn.Module):
    """One layer of Mimi's transformers."""

    def __init__(self, dim: int, heads: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.norm1: LayerNorm = LayerNorm(dim)
        self.self_attn: Attention = Attention(dim, heads)
        self.layer_scale_1: LayerScale = LayerScale(dim, scale)
        self.norm2: LayerNorm = LayerNorm(dim)
        self.linear1: Projection = Projection(dim, hidden)
        self.linear2: Projection = Projection(hidden, dim)
        self.layer_scale_2: LayerScale = LayerScale(dim, scale)

    def forward(self, x: Tensor, window: AttentionWindow, index: int) -> Tensor:
        """Transform ``[batch, positions, dim]``, which is used up."""
        x = self.self_attn(x, window, index, self.norm1, self.layer_scale_1.scale)
        hidden = self.linear1(x, Fusion(norm=self.norm2, activation="gelu"))
        return self.linear2(hidden, Fusion(scale=self.layer_scale_2.scale, onto=x))


class MimiTransformer(nn.Module):
    """The transformer of Mimi's encoder or decoder, ``[batch, positions, dim]`` to the same."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        shape = config.transformer
        layers = [
            MimiLayer(shape.d_model, shape.num_heads, shape.dim_feedforward, shape.layer_scale)
            for _ in range(shape.num_layers)
        ]
        self.transformer: nn.ModuleDict = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.ring: RingCache = RingCache(
            layers=shape.num_layers,
            heads=shape.num_heads,
            head_dim=shape.d_model // shape.num_heads,
            context=shape.context,
            period=shape.max_period,
            positions_per_frame=config.positions_per_frame,
        )
        self.layers: list[MimiLayer] = layers

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """Transform the next positions of every stream, ``x``, which is used up."""
        window = self.ring.window(call, x.shape[0], x.shape[1], x.device)
        for index, layer in enumerate(self.layers):
            x = layer(x, window, index)
        return x


class TemporalLayer(nn.Module):
    """One layer of the temporal transformer."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        dim, heads, cross = config.dim, config.num_heads, config.cross_attention
        self.norm1: RmsNorm = RmsNorm(dim)
        self.self_attn: Attention = Attention(dim, heads, config.kv_repeat)
        self.norm2: RmsNorm = RmsNorm(dim)
        self.gating: GatedFeedForward = GatedFeedForward(dim, config.feedforward)
        self.cross_attention: CrossAttention | None = CrossAttention(dim, heads) if cross else None
        self.norm_cross: LayerNorm | None = LayerNorm(dim) if cross else None

    def forward(self, x: Tensor, window: AttentionWindow, index: int, call: Call) -> Tensor:
        """Transform ``[batch, positions, dim]``, which is used up."""
        x = self.self_attn(x, window, index, self.norm1)
        if self.cross_attention is not None and self.norm_cross is not None:
            x = self.cross_attention(x, call, self.norm_cross)
        return self.gating(x, self.norm2)


class TemporalTransformer(nn.Module):
    """The transformer over time (section 3.2 of the paper), ``[batch, positions, dim]`` to the same."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        layers = [TemporalLayer(config) for _ in range(config.num_layers)]
        self.layers: nn.ModuleList = nn.ModuleList(layers)
        self.crossing: list[CrossAttention] = [each.cross_attention for each in layers if each.cross_attention]
        self.ring: RingCache = RingCache(
            layers=config.num_layers,
            heads=config.num_heads,
            head_dim=config.dim // config.num_heads,
            context=config.context,
            period=config.max_period,
            positions_per_frame=1,
            repeat=config.kv_repeat,
        )

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """Transform the next positions of every stream, ``x``, which is used up."""
        window = self.ring.window(call, x.shape[0], x.shape[1], x.device)
        for index, layer in enumerate(self.layers):
            x = layer(x, window, index, call)
        return x
