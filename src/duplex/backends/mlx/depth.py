"""The depth transformer: the codes of one frame, one codebook after another (section 3.2 of the paper).

It is causal over the codebooks of a frame and starts anew with every frame, so its past is local to a call. Each
codebook has a slice of its own, as published for MLX; slices of the same set of weights
(``depformer_weights_per_step_schedule``) share its modules, whatever file they come from.
"""

import mlx.core as mx
from mlx import nn

from duplex.backends.mlx.arrays import shaped
from duplex.backends.mlx.attention import attend, split_heads
from duplex.backends.mlx.embedding import DemuxedEmbedding, LowRankEmbedding, TokenEmbedding
from duplex.backends.mlx.guidance import Guidance
from duplex.backends.mlx.linear import Linear
from duplex.backends.mlx.module import Module
from duplex.backends.mlx.sampling import Sampler
from duplex.backends.mlx.transformer import GatedFeedForward, RmsNorm
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.frame_model import UNGENERATED, ZERO

__all__ = ["DepthTransformer"]


KeyValueCache = list[tuple[mx.array, mx.array]]
"""Keys and values ``[batch, heads, 1, head_dim]`` of the codebooks before, in one layer."""


class DepthAttention(Module):
    """Attention to the codebooks before, in one layer; ``repeat`` heads of queries share a key and a value."""

    def __init__(self, dim: int, heads: int, repeat: int) -> None:
        super().__init__()
        self.heads = heads
        self.repeat = repeat
        self.in_proj: Linear = Linear(dim, dim + 2 * dim // repeat)
        self.out_proj: Linear = Linear(dim, dim)

    def __call__(self, x: mx.array, past: KeyValueCache) -> mx.array:
        """Attend from one codebook, ``x`` ``[batch, dim]``, to itself and those before, which are ``past``."""
        query, key, value = split_heads(self.in_proj(x)[:, None], self.heads, self.repeat)
        past.append((key, value))
        keys, values = (mx.concatenate(list(parts), axis=2) for parts in zip(*past, strict=True))
        return self.out_proj(shaped(attend(query, keys, values), *x.shape))


class DepthLayer(Module):
    """One layer of one set of weights."""

    def __init__(self, config: LanguageModelConfig, hidden: int) -> None:
        super().__init__()
        dim = config.depformer_dim
        self.norm1: RmsNorm = RmsNorm(dim)
        self.self_attn: DepthAttention = DepthAttention(dim, config.depformer_num_heads, config.depth_kv_repeat)
        self.norm2: RmsNorm = RmsNorm(dim)
        self.gating: GatedFeedForward = GatedFeedForward(dim, hidden)

    def __call__(self, x: mx.array, past: KeyValueCache) -> mx.array:
        """Transform ``[batch, dim]``."""
        x = x + self.self_attn(self.norm1(x), past)
        return x + self.gating(self.norm2(x))


class WeightSet(Module):
    """The input projection and the layers that the codebooks of one set share."""

    def __init__(self, config: LanguageModelConfig, hidden: int) -> None:
        super().__init__()
        self.linear_in: Linear = Linear(config.dim, config.depformer_dim)
        self.layers: list[DepthLayer] = [DepthLayer(config, hidden) for _ in range(config.depformer_num_layers)]


class DepthSlice(Module):
    """What computes one codebook: its own embedding, norm and output, and its set's projection and layers."""

    def __init__(self, config: LanguageModelConfig, codebook: int, weights: WeightSet) -> None:
        super().__init__()
        self.emb: TokenEmbedding = _embedding(config, codebook)
        self.linear_in: Linear = weights.linear_in
        self.transformer: dict[str, list[DepthLayer]] = {"layers": weights.layers}
        if config.depformer_norm:
            self.norm: nn.LayerNorm = nn.LayerNorm(config.depformer_dim, eps=1e-5)
        self.normed: bool = config.depformer_norm is not None
        self.linear_out: Linear = Linear(config.depformer_dim, config.card)

    def __call__(self, context: mx.array, previous: mx.array, past: list[KeyValueCache]) -> mx.array:
        """Return the codebook's logits, float32 ``[batch, audio_vocabulary]``, given the token before it."""
        x = self.linear_in(context) + self.emb(previous)
        for layer, held in zip(self.transformer["layers"], past, strict=True):
            x = layer(x, held)
        return self.linear_out(self.norm(x) if self.normed else x).astype(mx.float32)


def _embedding(config: LanguageModelConfig, codebook: int) -> TokenEmbedding:
    """Return the embedding of the token before a codebook's: the text's before the first."""
    dim, rank = config.depformer_dim, config.depformer_low_rank_embeddings
    vocabulary = 1 + (config.card if codebook else config.text_card)
    if not codebook and config.demux_second_stream:
        return DemuxedEmbedding(vocabulary, dim, rank)
    return LowRankEmbedding(vocabulary, dim, rank) if rank else TokenEmbedding(vocabulary, dim)


class DepthTransformer(Module):
    """Codes ``[batch, agent_streams]`` for one time step, from the temporal transformer's output and the text token."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        sets = [WeightSet(config, hidden) for hidden in config.depth_feedforwards]
        self.slices: list[DepthSlice] = [
            DepthSlice(config, codebook, sets[index]) for codebook, index in enumerate(config.depth_weight_sets)
        ]

    def __call__(
        self,
        context: mx.array,
        text: mx.array,
        sampler: Sampler,
        known: mx.array | None,
        guidance: Guidance | None = None,
    ) -> mx.array:
        """Choose the agent's codes, int32 ``[batch, agent_streams]``.

        Of the codes that the sampling leaves out, the last ones, each is ``ZERO``.
        ``context`` is ``[batch, dim]``, with the second rows of ``guidance`` after them, ``text`` int32 ``[batch]``;
        where ``known`` int32 ``[batch, agent_streams]`` is not ``UNGENERATED`` it stands instead of a choice.
        """
        past: list[KeyValueCache] = [[] for _ in range(self.config.depformer_num_layers)]
        codes: list[mx.array] = []
        previous = text
        for codebook in range(min(sampler.sampling.codebooks or self.config.agent_streams, self.config.agent_streams)):
            fed = previous if guidance is None else guidance.doubled(previous)
            logits = self.slices[codebook](context, fed, past)
            if guidance is not None:
                logits = guidance.guided(logits)
            previous = sampler.sample_audio(logits, codebook)
            if known is not None:
                previous = mx.where(known[:, codebook] == UNGENERATED, previous, known[:, codebook])
            codes.append(previous)
        codes += [mx.full(text.shape, ZERO, text.dtype)] * (self.config.agent_streams - len(codes))
        return mx.stack(codes, axis=1)
