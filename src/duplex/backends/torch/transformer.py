"""The two kinds of transformer: Mimi's (layer norm, GELU, layer scale) and the temporal one (RMS norm, gated SiLU)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch import kernels
from duplex.backends.torch.attention import Attention, Ring, Window
from duplex.backends.torch.quantize import Projection
from duplex.backends.torch.state import Call
from duplex.config import LanguageModelConfig, MimiConfig

__all__ = ["GatedFeedForward", "MimiTransformer", "RmsNorm", "TemporalTransformer"]


class RmsNorm(nn.Module):
    """Root mean square norm, computed in float32; its weight is ``alpha`` ``[1, 1, dim]`` as published."""

    EPSILON = 1e-8

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``[..., dim]``."""
        if kernels.apply_to(x):
            from duplex.backends.torch.kernels.pointwise import norm  # noqa: PLC0415 -- needs Triton

            return norm(x.contiguous(), None, self.alpha, self.EPSILON)[1]
        return functional.rms_norm(x.float(), x.shape[-1:], self.alpha[0, 0].float(), self.EPSILON).to(x.dtype)

    def after(self, x: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return ``x + added``, both ``[..., dim]``, and its norm."""
        if added is not None and kernels.apply_to(x):
            from duplex.backends.torch.kernels.pointwise import norm  # noqa: PLC0415 -- needs Triton

            return norm(x.contiguous(), added.contiguous(), self.alpha, self.EPSILON)
        x = x if added is None else x + added
        return x, self(x)


class GatedFeedForward(nn.Module):
    """SiLU-gated feed-forward without biases; ``linear_in`` holds the gate's half first."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear_in = Projection(dim, 2 * hidden)
        self.linear_out = Projection(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``[..., dim]``."""
        x = self.linear_in(x)
        if kernels.apply_to(x):
            from duplex.backends.torch.kernels.pointwise import gate  # noqa: PLC0415 -- needs Triton

            return self.linear_out(gate(x))
        opened, value = x.chunk(2, dim=-1)
        return self.linear_out(functional.silu(opened) * value)


class LayerScale(nn.Module):
    """A learnt factor per channel."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``[..., dim]``."""
        return self.scale * x


class MimiLayer(nn.Module):
    """One layer of Mimi's transformers."""

    def __init__(self, dim: int, heads: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.self_attn = Attention(dim, heads)
        self.layer_scale_1 = LayerScale(dim, scale)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.linear1 = Projection(dim, hidden)
        self.linear2 = Projection(hidden, dim)
        self.layer_scale_2 = LayerScale(dim, scale)


class MimiTransformer(nn.Module):
    """The transformer of Mimi's encoder or decoder, ``[batch, positions, dim]`` to the same."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        shape = config.transformer
        layers = [
            MimiLayer(shape.d_model, shape.num_heads, shape.dim_feedforward, shape.layer_scale)
            for _ in range(shape.num_layers)
        ]
        self.transformer = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.ring = Ring(
            layers=shape.num_layers,
            heads=shape.num_heads,
            head_dim=shape.d_model // shape.num_heads,
            context=shape.context,
            period=shape.max_period,
            positions_per_frame=config.positions_per_frame,
        )
        self.layers: list[MimiLayer] = layers

    def forward(self, x: Tensor, call: Call) -> Tensor:
        """Transform the next positions of every stream."""
        window = self.ring.window(call, x.shape[0], x.shape[1], x.device)
        for index, layer in enumerate(self.layers):
            x = x + layer.layer_scale_1(layer.self_attn(layer.norm1(x), window, index))
            hidden = functional.gelu(layer.linear1(layer.norm2(x)))
            x = x + layer.layer_scale_2(layer.linear2(hidden))
        return x


class TemporalLayer(nn.Module):
    """One layer of the temporal transformer."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = RmsNorm(dim)
        self.self_attn = Attention(dim, heads)
        self.norm2 = RmsNorm(dim)
        self.gating = GatedFeedForward(dim, hidden)

    def forward(self, x: Tensor, added: Tensor | None, window: Window, index: int) -> tuple[Tensor, Tensor]:
        """Transform ``x + added`` ``[batch, positions, dim]``; what comes out is the sum of two likewise."""
        x, normed = self.norm1.after(x, added)
        x, normed = self.norm2.after(x, self.self_attn(normed, window, index))
        return x, self.gating(normed)


class TemporalTransformer(nn.Module):
    """The transformer over time (section 3.2 of the paper). A sum is left to the norm that comes after it."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        layers = [TemporalLayer(config.dim, config.num_heads, config.feedforward) for _ in range(config.num_layers)]
        self.layers = nn.ModuleList(layers)
        self.ring = Ring(
            layers=config.num_layers,
            heads=config.num_heads,
            head_dim=config.dim // config.num_heads,
            context=config.context,
            period=config.max_period,
            positions_per_frame=1,
        )

    def forward(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        """Transform the next positions of every stream, ``[batch, positions, dim]``, to the sum of two likewise."""
        window = self.ring.window(call, x.shape[0], x.shape[1], x.device)
        added = None
        for index, layer in enumerate(self.layers):
            x, added = layer(x, added, window, index)
        assert added is not None, "there is at least one layer"
        return x, added
