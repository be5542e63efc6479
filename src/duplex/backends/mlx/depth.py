"""The depth transformer: the codes of one frame, one codebook after another (section 3.2 of the paper).

It is causal over the codebooks of a frame and starts anew with every frame, so its past is local to a call. Each
codebook has a slice of its own, with all the weights of one, as published for MLX.
"""

import mlx.core as mx

from duplex.backends.mlx.arrays import shaped
from duplex.backends.mlx.embedding import TokenEmbedding
from duplex.backends.mlx.linear import Linear
from duplex.backends.mlx.module import Module
from duplex.backends.mlx.sampling import Sampler
from duplex.backends.mlx.transformer import GatedFeedForward, RmsNorm
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.frame_model import UNGENERATED

__all__ = ["DepthTransformer"]


KeyValueCache = list[tuple[mx.array, mx.array]]
"""Keys and values ``[batch, heads, 1, head_dim]`` of the codebooks before, in one layer."""


class DepthAttention(Module):
    """Attention to the codebooks before, in one layer of one codebook's slice."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj: Linear = Linear(dim, 3 * dim)
        self.out_proj: Linear = Linear(dim, dim)

    def __call__(self, x: mx.array, past: KeyValueCache) -> mx.array:
        """Attend from one codebook, ``x`` ``[batch, dim]``, to itself and those before, which are ``past``."""
        projected = shaped(self.in_proj(x), x.shape[0], 3, self.heads, 1, -1)
        past.append((projected[:, 1], projected[:, 2]))
        keys, values = (mx.concatenate(list(parts), axis=2) for parts in zip(*past, strict=True))
        query = projected[:, 0]
        y = mx.fast.scaled_dot_product_attention(query, keys, values, scale=query.shape[-1] ** -0.5)
        return self.out_proj(shaped(y, *x.shape))


class DepthLayer(Module):
    """One layer of one codebook's slice."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1: RmsNorm = RmsNorm(dim)
        self.self_attn: DepthAttention = DepthAttention(dim, heads)
        self.norm2: RmsNorm = RmsNorm(dim)
        self.gating: GatedFeedForward = GatedFeedForward(dim, hidden)

    def __call__(self, x: mx.array, past: KeyValueCache) -> mx.array:
        """Transform ``[batch, dim]``."""
        x = x + self.self_attn(self.norm1(x), past)
        return x + self.gating(self.norm2(x))


class DepthSlice(Module):
    """What belongs to one codebook."""

    def __init__(self, config: LanguageModelConfig, vocabulary: int) -> None:
        super().__init__()
        dim = config.depformer_dim
        layers = [
            DepthLayer(dim, config.depformer_num_heads, config.depth_feedforwards[0])
            for _ in range(config.depformer_num_layers)
        ]
        self.emb: TokenEmbedding = TokenEmbedding(vocabulary + 1, dim)
        self.linear_in: Linear = Linear(config.dim, dim)
        self.transformer: dict[str, list[DepthLayer]] = {"layers": layers}
        self.linear_out: Linear = Linear(dim, config.card)

    def __call__(self, context: mx.array, previous: mx.array, past: list[KeyValueCache]) -> mx.array:
        """Return the codebook's logits, float32 ``[batch, audio_vocabulary]``, given the token before it."""
        x = self.linear_in(context) + self.emb(previous)
        for layer, held in zip(self.transformer["layers"], past, strict=True):
            x = layer(x, held)
        return self.linear_out(x).astype(mx.float32)


class DepthTransformer(Module):
    """Codes ``[batch, agent_streams]`` for one time step, from the temporal transformer's output and the text token."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.slices: list[DepthSlice] = [
            DepthSlice(config, config.card if codebook else config.text_card) for codebook in range(config.dep_q)
        ]

    def __call__(self, context: mx.array, text: mx.array, sampler: Sampler, known: mx.array | None) -> mx.array:
        """Choose the agent's codes, int32 ``[batch, agent_streams]``.

        ``context`` is ``[batch, dim]``, ``text`` int32 ``[batch]``; where ``known`` int32 ``[batch, agent_streams]``
        is not ``UNGENERATED`` it stands instead of a choice.
        """
        past: list[KeyValueCache] = [[] for _ in range(self.config.depformer_num_layers)]
        codes: list[mx.array] = []
        previous = text
        for codebook in range(self.config.agent_streams):
            logits = self.slices[codebook](context, previous, past)
            previous = sampler.sample_audio(logits, codebook)
            if known is not None:
                previous = mx.where(known[:, codebook] == UNGENERATED, previous, known[:, codebook])
            codes.append(previous)
        return mx.stack(codes, axis=1)
