"""The depth transformer: the codes of one frame, one codebook after another (section 3.2 of the paper).

It is causal over the codebooks of a frame and starts anew with every frame, so its past is local to a call. Each
codebook has weights of its own; published files stack them in the rows of ``in_proj_weight`` and ``out_proj.weight``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch.embedding import TokenEmbedding
from duplex.backends.torch.sampling import Sampler
from duplex.backends.torch.transformer import GatedFeedForward, RmsNorm
from duplex.config import LanguageModelConfig
from duplex.frame_model import UNGENERATED

__all__ = ["DepthTransformer"]


Past = list[tuple[Tensor, Tensor]]
"""Keys and values ``[batch, heads, 1, head_dim]`` of the codebooks before, in one layer."""


class StackedAttention(nn.Module):
    """Attention whose projections are stacked by codebook: ``[codebooks * rows, dim]``."""

    def __init__(self, dim: int, heads: int, codebooks: int) -> None:
        super().__init__()
        self.heads = heads
        self.codebooks = codebooks
        self.in_proj_weight = nn.Parameter(torch.empty(codebooks * 3 * dim, dim))
        self.out_proj = nn.Linear(dim, codebooks * dim, bias=False)

    def forward(self, x: Tensor, codebook: int, past: Past) -> Tensor:
        """Attend from codebook ``codebook``, ``x`` ``[batch, dim]``, to itself and those before, which are ``past``."""
        weight = self.in_proj_weight.view(self.codebooks, -1, x.shape[1])[codebook]
        query, key, value = functional.linear(x, weight).view(x.shape[0], 3, self.heads, 1, -1).unbind(1)
        past.append((key, value))
        keys, values = (torch.cat(parts, dim=2) for parts in zip(*past, strict=True))
        y = functional.scaled_dot_product_attention(query, keys, values)
        out = self.out_proj.weight.view(self.codebooks, -1, x.shape[1])[codebook]
        return functional.linear(y.flatten(1), out)


class DepthLayer(nn.Module):
    """One layer: the norms are shared by all codebooks, everything else is each one's own."""

    def __init__(self, dim: int, heads: int, hidden: int, codebooks: int) -> None:
        super().__init__()
        self.norm1 = RmsNorm(dim)
        self.self_attn = StackedAttention(dim, heads, codebooks)
        self.norm2 = RmsNorm(dim)
        self.gating = nn.ModuleList([GatedFeedForward(dim, hidden) for _ in range(codebooks)])

    def forward(self, x: Tensor, codebook: int, past: Past) -> Tensor:
        """Transform ``[batch, dim]`` for one codebook."""
        x = x + self.self_attn(self.norm1(x[:, None])[:, 0], codebook, past)
        return x + self.gating[codebook](self.norm2(x[:, None])[:, 0])


class DepthTransformer(nn.Module):
    """Codes ``[batch, agent_streams]`` for one time step, from the temporal transformer's output and the text token."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        dim, codebooks = config.depformer_dim, config.dep_q
        self.config = config
        self.depformer_in = nn.ModuleList([nn.Linear(config.dim, dim, bias=False) for _ in range(codebooks)])
        self.depformer_text_emb = TokenEmbedding(config.text_card + 1, dim)
        self.depformer_emb = nn.ModuleList([TokenEmbedding(config.card + 1, dim) for _ in range(codebooks - 1)])
        layers = [
            DepthLayer(dim, config.depformer_num_heads, config.depformer_feedforward, codebooks)
            for _ in range(config.depformer_num_layers)
        ]
        self.depformer = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.linears = nn.ModuleList([nn.Linear(dim, config.card, bias=False) for _ in range(codebooks)])
        self.layers: list[DepthLayer] = layers

    def forward(self, context: Tensor, text: Tensor, sampler: Sampler, known: Tensor | None) -> Tensor:
        """Choose the agent's codes, int64 ``[batch, agent_streams]``.

        ``context`` is ``[batch, dim]``, ``text`` int64 ``[batch]``; where ``known`` int64 ``[batch, agent_streams]``
        is not ``UNGENERATED`` it stands instead of a choice.
        """
        past = self.begin()
        codes: list[Tensor] = []
        previous = text
        for codebook in range(self.config.agent_streams):
            logits = self.logits(context, previous, codebook, past)
            previous = sampler.choose_audio(logits, codebook)
            if known is not None:
                previous = torch.where(known[:, codebook] == UNGENERATED, previous, known[:, codebook])
            codes.append(previous)
        return torch.stack(codes, dim=1)

    def logits(self, context: Tensor, previous: Tensor, codebook: int, past: list[Past]) -> Tensor:
        """Return one codebook's logits, float32 ``[batch, audio_vocabulary]``, given the token before it.

        ``past`` comes from :meth:`begin`, and is filled codebook by codebook.
        """
        embedding = self.depformer_text_emb if codebook == 0 else self.depformer_emb[codebook - 1]
        x = self.depformer_in[codebook](context) + embedding(previous)
        for layer, held in zip(self.layers, past, strict=True):
            x = layer(x, codebook, held)
        return self.linears[codebook](x).float()

    def begin(self) -> list[Past]:
        """Return the past of a frame's first codebook, for each layer: none yet."""
        return [[] for _ in self.layers]
