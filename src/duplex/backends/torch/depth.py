"""The depth transformer: the codes of one frame, one codebook after another (section 3.2 of the paper).

It is causal over the codebooks of a frame and starts anew with every frame, so its past is local to a call. Each
codebook has weights of its own, or shares a set with others (``depformer_weights_per_step_schedule``); published files
stack the sets in the rows of ``in_proj_weight`` and ``out_proj.weight``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch import kernels
from duplex.backends.torch.embedding import DemuxedEmbedding, LowRankEmbedding, TokenEmbedding
from duplex.backends.torch.fusion import Fusion
from duplex.backends.torch.guidance import Guidance
from duplex.backends.torch.linear import Projection, linear, part
from duplex.backends.torch.norm import LayerNorm, Norm, RmsNorm
from duplex.backends.torch.sampling import Sampler
from duplex.backends.torch.transformer import GatedFeedForward
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.frame_model import UNGENERATED, ZERO

__all__ = ["DepthTransformer", "StackedAttention"]


class KeyValueCache:
    """What one layer remembers of the codebooks before."""

    def __init__(self, codebooks: int) -> None:
        self._codebooks = codebooks
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._held: Tensor | None = None

    def attend(self, projected: Tensor, codebook: int) -> Tensor:
        """Remember one codebook's keys and values, and return what its query sees, ``[batch, heads * head_dim]``.

        ``projected`` is ``[batch, 3, heads, head_dim]``.
        """
        if kernels.apply_to(projected) and projected.shape[-1].bit_count() == 1:
            from duplex.backends.torch.kernels.depth_attention import attend_depth  # noqa: PLC0415 -- needs Triton

            if self._held is None:
                batch, _, heads, width = projected.shape
                self._held = projected.new_empty((batch, self._codebooks, 2, heads, width))
            return attend_depth(projected, self._held, codebook)
        query, key, value = projected[:, :, :, None].unbind(1)
        self._seen.append((key, value))
        keys, values = (torch.cat(parts, dim=2) for parts in zip(*self._seen, strict=True))
        return functional.scaled_dot_product_attention(query, keys, values).flatten(1)


class StackedAttention(nn.Module):
    """Attention whose projections are stacked by weight set, ``[sets * rows, dim]``, beside the identity."""

    def __init__(self, dim: int, heads: int, sets: int) -> None:
        super().__init__()
        self.heads = heads
        self.sets = sets
        self.in_proj_weight: nn.Parameter = nn.Parameter(torch.empty(sets * 3 * dim, dim))
        self.out_proj: Projection = Projection(dim, sets * dim)

    def forward(self, x: Tensor, codebook: int, weights: int, past: KeyValueCache, norm: Norm) -> Tensor:
        """Add to a codebook's ``x`` ``[batch, dim]``, used up, what it sees, normed, in itself and in the ``past``."""
        projected = linear(x, part(self.in_proj_weight, weights, self.sets), fusion=Fusion(norm=norm))
        seen = past.attend(projected.view(x.shape[0], 3, self.heads, -1), codebook)
        return linear(seen, part(self.out_proj.weight, weights, self.sets), fusion=Fusion(onto=x))


class DepthLayer(nn.Module):
    """One layer: the norms are shared by all codebooks, everything else belongs to a set of weights."""

    def __init__(self, dim: int, heads: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.norm1: RmsNorm = RmsNorm(dim)
        self.self_attn: StackedAttention = StackedAttention(dim, heads, len(hidden))
        self.norm2: RmsNorm = RmsNorm(dim)
        self.gating: nn.ModuleList = nn.ModuleList([GatedFeedForward(dim, width) for width in hidden])

    def forward(self, x: Tensor, codebook: int, weights: int, past: KeyValueCache) -> Tensor:
        """Transform ``[batch, dim]``, which is used up, for one codebook."""
        return self.gating[weights](self.self_attn(x, codebook, weights, past, self.norm1), self.norm2)


class DepthTransformer(nn.Module):
    """Codes ``[batch, agent_streams]`` for one time step, from the temporal transformer's output and the text token."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        dim, codebooks, hidden = config.depformer_dim, config.dep_q, config.depth_feedforwards
        self.config = config
        self.sets: tuple[int, ...] = config.depth_weight_sets
        """Which weights each codebook has."""
        self.depformer_in: nn.ModuleList = nn.ModuleList([Projection(config.dim, dim) for _ in hidden])
        rank = config.depformer_low_rank_embeddings
        self.depformer_text_emb: TokenEmbedding = (
            DemuxedEmbedding(config.text_card + 1, dim, rank)
            if config.demux_second_stream
            else _embedding(config.text_card + 1, dim, rank)
        )
        embeddings = [_embedding(config.card + 1, dim, rank) for _ in range(codebooks - 1)]
        self.depformer_emb: nn.ModuleList = nn.ModuleList(embeddings)
        layers = [DepthLayer(dim, config.depformer_num_heads, hidden) for _ in range(config.depformer_num_layers)]
        self.depformer: nn.ModuleDict = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        norms = [LayerNorm(dim) for _ in range(codebooks)] if config.depformer_norm else []
        self.depformer_norms: nn.ModuleList = nn.ModuleList(norms)
        self.linears: nn.ModuleList = nn.ModuleList([Projection(dim, config.card) for _ in range(codebooks)])
        self.layers: list[DepthLayer] = layers
        self.embeddings: list[TokenEmbedding] = [self.depformer_text_emb, *embeddings]
        self.norms: list[LayerNorm | None] = [*norms] or [None] * codebooks

    def forward(
        self, context: Tensor, text: Tensor, sampler: Sampler, known: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        """Choose the agent's codes, int64 ``[batch, agent_streams]``.

        Of the codes that the sampling leaves out, the last ones, each is ``ZERO``.
        ``context`` is ``[batch, dim]``, or with ``guidance`` both rows of each slot, ``[2 * batch, dim]``; ``text`` is
        int64 ``[batch]``; where ``known`` int64 ``[batch, agent_streams]`` is not ``UNGENERATED`` it stands instead of
        a choice.
        """
        past = self.begin()
        codes: list[Tensor] = []
        previous = text
        for codebook in range(min(sampler.sampling.codebooks or self.config.agent_streams, self.config.agent_streams)):
            if guidance is None:
                logits = self.logits(context, previous, codebook, past)
            else:
                logits = guidance.guided(self.logits(context, guidance.doubled(previous), codebook, past))
            previous = sampler.sample_audio(logits, codebook)
            if known is not None:
                previous = torch.where(known[:, codebook] == UNGENERATED, previous, known[:, codebook])
            codes.append(previous)
        codes += [torch.full_like(text, ZERO)] * (self.config.agent_streams - len(codes))
        return torch.stack(codes, dim=1)

    def logits(self, context: Tensor, previous: Tensor, codebook: int, past: list[KeyValueCache]) -> Tensor:
        """Return one codebook's logits, float32 ``[batch, audio_vocabulary]``, given the token before it.

        ``past`` comes from :meth:`begin`, and is filled codebook by codebook.
        """
        weights = self.sets[codebook]
        x = self.embeddings[codebook].added_to(self.depformer_in[weights](context), previous)
        for layer, held in zip(self.layers, past, strict=True):
            x = layer(x, codebook, weights, held)
        return self.linears[codebook](x, Fusion(norm=self.norms[codebook])).float()

    def begin(self) -> list[KeyValueCache]:
        """Return the past of a frame's first codebook, for each layer: none yet."""
        return [KeyValueCache(self.config.agent_streams) for _ in self.layers]


def _embedding(rows: int, dim: int, rank: int | None) -> TokenEmbedding:
    return LowRankEmbedding(rows, dim, rank) if rank else TokenEmbedding(rows, dim)
