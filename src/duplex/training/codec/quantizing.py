"""Training of the split residual quantizer: straight-through gradients, codebooks as running means (section 3.3.2).

1. Gradients pass the quantizer as if it were not there; the commitment loss draws latents to their entries.
2. An entry is the running mean of the vectors that chose it, never moved by a gradient.
3. An entry that is hardly chosen any more starts again as one of the vectors at hand.
"""

from typing import Any

import torch
import torch.distributed
from torch import Tensor

from duplex.backends.torch.quantizer import Codebook, ResidualQuantizer

__all__ = ["plain", "quantized", "seed_codebooks"]

DECAY = 0.99
SMALLEST_SHARE = 0.1
"""Of an entry's fair share of the vectors: below it, the entry starts again."""
K_MEANS_ROUNDS = 12


def plain(quantizer: ResidualQuantizer, latent: Tensor) -> Tensor:
    """Return latents ``[batch, frames, dimension]`` as the quantizer would with codebooks without end."""
    return quantizer.unproject(quantizer.project(latent))


def quantized(quantizer: ResidualQuantizer, latent: Tensor, *, learn: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Return quantized latents ``[batch, frames, dimension]`` and the commitment loss.

    With ``learn`` entries move; the generator draws what lonely ones start again as.
    """
    projected = quantizer.project(latent)
    residual, total = projected, torch.zeros_like(projected)
    commitment = projected.new_zeros(())
    for codebook in quantizer.codebooks:
        with torch.no_grad():
            codes = codebook.encode(residual)
            entries = codebook.decode(codes)
            if learn is not None:
                _move(codebook, residual.detach().flatten(0, 1), codes.flatten(), learn)
        commitment = commitment + (residual - entries).square().mean()
        residual, total = residual - entries, total + entries
    total = projected + (total - projected).detach()
    return quantizer.unproject(total), commitment


@torch.no_grad()
def seed_codebooks(quantizer: ResidualQuantizer, latents: Tensor, generator: torch.Generator) -> None:
    """Set all entries by k-means over latents ``[count, dimension]``, each codebook on what the ones before leave."""
    residual = quantizer.project(latents)
    for codebook in quantizer.codebooks:
        bins = len(codebook.entries)
        chosen = torch.randperm(len(residual), generator=generator)[torch.arange(bins) % len(residual)]
        _set(codebook, residual[chosen.to(residual.device)], residual.new_ones(bins))
        for _ in range(K_MEANS_ROUNDS):
            sums, counts = _gathered(codebook, residual, codebook.encode(residual))
            lone = torch.randint(len(residual), (bins,), generator=generator).to(residual.device)
            means = sums / counts.clamp(min=1)[:, None]
            _set(codebook, torch.where(counts[:, None] > 0, means, residual[lone]), counts.clamp(min=1))
        residual = residual - codebook.decode(codebook.encode(residual))


def _move(codebook: Codebook, vectors: Tensor, codes: Tensor, generator: torch.Generator) -> None:
    """Take vectors ``[count, dimension]`` that chose ``codes`` into the running means; see rules 2 and 3."""
    sums, counts = _gathered(codebook, vectors, codes)
    distributed: Any = torch.distributed  # its annotations are incomplete
    together = distributed.is_available() and distributed.is_initialized()
    if together:
        distributed.all_reduce(sums)
        distributed.all_reduce(counts)
    codebook.embedding_sum.lerp_(sums, 1 - DECAY)
    codebook.cluster_usage.lerp_(counts, 1 - DECAY)
    fair = codebook.cluster_usage.sum() / len(codebook.cluster_usage)
    lonely = codebook.cluster_usage < SMALLEST_SHARE * fair
    spare = vectors[torch.randint(len(vectors), (len(lonely),), generator=generator).to(vectors.device)]
    if together:
        distributed.broadcast(spare, 0)  # the same new entries on every device
    usage = torch.where(lonely, fair / 2, codebook.cluster_usage)
    _set(codebook, torch.where(lonely[:, None], spare, codebook.embedding_sum / usage[:, None]), usage)


def _gathered(codebook: Codebook, vectors: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the vectors of each entry, and how many there were."""
    sums = torch.zeros_like(codebook.entries).index_add_(0, codes, vectors)
    return sums, torch.bincount(codes, minlength=len(codebook.entries)).to(vectors.dtype)


def _set(codebook: Codebook, entries: Tensor, usage: Tensor) -> None:
    codebook.cluster_usage.copy_(usage)
    codebook.embedding_sum.copy_(entries * usage[:, None])
    codebook.prepare()
