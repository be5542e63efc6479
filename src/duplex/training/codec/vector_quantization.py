"""Training of the split residual vector quantizer: straight-through gradients, EMA codebooks (section 3.3.2).

1. The straight-through estimator passes gradients; the commitment loss pulls latents towards their entries.
2. An entry is the exponential moving average of the vectors assigned to it, never updated by a gradient.
3. An entry that is rarely used is replaced by a random vector of the batch.
"""

from typing import Any

import torch
import torch.distributed
from torch import Tensor

from duplex.backends.torch.quantizer import Codebook, ResidualQuantizer

__all__ = ["bypass", "initialize_codebooks", "quantize"]

DECAY = 0.99
SMALLEST_SHARE = 0.1
"""Of an entry's fair share of the vectors: below it, the entry is replaced."""
K_MEANS_ROUNDS = 12


def bypass(quantizer: ResidualQuantizer, latent: Tensor) -> Tensor:
    """Return latents ``[batch, frames, dimension]`` through the projections alone, as with infinite codebooks."""
    return quantizer.unproject(quantizer.project(latent))


def quantize(quantizer: ResidualQuantizer, latent: Tensor, *, learn: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Return quantized latents ``[batch, frames, dimension]`` and the commitment loss.

    With ``learn`` the codebooks are updated; the generator draws replacements of unused entries.
    """
    projected = quantizer.project(latent)
    residual, total = projected, torch.zeros_like(projected)
    commitment = projected.new_zeros(())
    for codebook in quantizer.codebooks:
        with torch.no_grad():
            codes = codebook.encode(residual)
            entries = codebook.decode(codes)
            if learn is not None:
                _update_entries(codebook, residual.detach().flatten(0, 1), codes.flatten(), learn)
        commitment = commitment + (residual - entries).square().mean()
        residual, total = residual - entries, total + entries
    total = projected + (total - projected).detach()
    return quantizer.unproject(total), commitment


@torch.no_grad()
def initialize_codebooks(quantizer: ResidualQuantizer, latents: Tensor, generator: torch.Generator) -> None:
    """Initialize all codebooks by k-means over latents ``[count, dimension]``, each on the residuals of the last."""
    residual = quantizer.project(latents)
    for codebook in quantizer.codebooks:
        bins = len(codebook.entries)
        chosen = torch.randperm(len(residual), generator=generator)[torch.arange(bins) % len(residual)]
        _set_entries(codebook, residual[chosen.to(residual.device)], residual.new_ones(bins))
        for _ in range(K_MEANS_ROUNDS):
            sums, counts = _cluster_sums(codebook, residual, codebook.encode(residual))
            lone = torch.randint(len(residual), (bins,), generator=generator).to(residual.device)
            means = sums / counts.clamp(min=1)[:, None]
            _set_entries(codebook, torch.where(counts[:, None] > 0, means, residual[lone]), counts.clamp(min=1))
        residual = residual - codebook.decode(codebook.encode(residual))


def _update_entries(codebook: Codebook, vectors: Tensor, codes: Tensor, generator: torch.Generator) -> None:
    """Update the moving averages with vectors ``[count, dimension]`` assigned to ``codes``; see rules 2 and 3."""
    sums, counts = _cluster_sums(codebook, vectors, codes)
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
    _set_entries(codebook, torch.where(lonely[:, None], spare, codebook.embedding_sum / usage[:, None]), usage)


def _cluster_sums(codebook: Codebook, vectors: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the vectors assigned to each entry, and their number."""
    sums = torch.zeros_like(codebook.entries).index_add_(0, codes, vectors)
    return sums, torch.bincount(codes, minlength=len(codebook.entries)).to(vectors.dtype)


def _set_entries(codebook: Codebook, entries: Tensor, usage: Tensor) -> None:
    codebook.cluster_usage.copy_(usage)
    codebook.embedding_sum.copy_(entries * usage[:, None])
    codebook.prepare()
