"""Mimi's split residual quantizer: one semantic codebook beside a residual chain of acoustic ones (section 3.3.2)."""

import torch
from torch import Tensor, nn

from duplex.backends.torch import kernels
from duplex.backends.torch.fusion import Fusion
from duplex.backends.torch.linear import linear
from duplex.checkpoints.mimi_config import QuantizerConfig

__all__ = ["Codebook", "SplitQuantizer"]


class Codebook(nn.Module):
    """Vectors to the index of their nearest entry, and back.

    Published files hold the running sums of training, ``embedding_sum`` over ``cluster_usage``; :meth:`prepare` turns
    them into entries once.
    """

    embedding_sum: Tensor
    cluster_usage: Tensor
    entries: Tensor
    offsets: Tensor

    SMALLEST_USAGE = 1e-5

    def __init__(self, bins: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("embedding_sum", torch.zeros(bins, dimension))
        self.register_buffer("cluster_usage", torch.ones(bins))
        self.register_buffer("entries", torch.zeros(bins, dimension), persistent=False)
        self.register_buffer("offsets", torch.zeros(bins), persistent=False)
        self.columns: Tensor | None = None
        """The entries once more, as products read them fastest on a CPU, ``[dimension, bins]``, once packed."""

    def prepare(self) -> None:
        """Compute the entries, and half their squared lengths, from what was loaded."""
        self.entries = self.embedding_sum / self.cluster_usage.clamp(min=self.SMALLEST_USAGE)[:, None]
        self.offsets = self.entries.square().sum(dim=-1) / 2

    def pack(self) -> None:
        """Exchange what the entries were made of for :attr:`columns`."""
        self.columns = self.entries.T.contiguous()
        del self.embedding_sum, self.cluster_usage

    def encode(self, x: Tensor) -> Tensor:
        """Return the indices ``[...]`` of the nearest entries of ``x`` ``[..., dimension]``.

        The squared distance is |x|^2 - 2 (x.e - |e|^2 / 2), and |x|^2 is the same for all entries.
        """
        columns = self.entries.T if self.columns is None else self.columns
        return (x @ columns - self.offsets).argmax(dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the entries ``[..., dimension]`` of ``codes`` ``[...]``."""
        return self.entries[codes]

    def decode_partial(self, codes: Tensor) -> Tensor:
        """Return the same, and zeros for a negative code."""
        return self.entries[codes.clamp(min=0)].masked_fill((codes < 0)[..., None], 0)


class VectorQuantization(nn.Module):
    """A codebook at its place in published files."""

    def __init__(self, bins: int, dimension: int) -> None:
        super().__init__()
        self._codebook = Codebook(bins, dimension)

    @property
    def codebook(self) -> Codebook:
        """The codebook."""
        return self._codebook


class ResidualQuantizer(nn.Module):
    """A chain of codebooks, each for what the ones before have left over, in a projected space."""

    def __init__(self, config: QuantizerConfig, count: int) -> None:
        super().__init__()
        self.input_proj: nn.Conv1d = nn.Conv1d(config.input_dimension, config.dimension, 1, bias=False)
        self.output_proj: nn.Conv1d = nn.Conv1d(config.dimension, config.output_dimension, 1, bias=False)
        layers = [VectorQuantization(config.bins, config.dimension) for _ in range(count)]
        self.vq: nn.ModuleDict = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.codebooks: list[Codebook] = [layer.codebook for layer in layers]

    def project(self, x: Tensor) -> Tensor:
        """Return latents ``[batch, frames, dimension]`` in the codebooks' space."""
        return linear(x, self.input_proj.weight[:, :, 0])

    def unproject(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """Return latents of what is in the codebooks' space, the converse of :meth:`project`, added to others."""
        return linear(x, self.output_proj.weight[:, :, 0], fusion=Fusion(onto=onto))

    def encode(self, x: Tensor) -> Tensor:
        """Return codes ``[batch, count, frames]`` of latents ``[batch, frames, dimension]``."""
        residual = self.project(x)
        if kernels.apply_to(residual):
            from duplex.backends.torch.kernels.codebooks import nearest  # noqa: PLC0415 -- needs Triton

            entries, offsets = zip(*((codebook.entries, codebook.offsets) for codebook in self.codebooks), strict=True)
            found = nearest(residual.flatten(0, 1), entries, offsets)
            return found.view(*residual.shape[:2], -1).transpose(1, 2)
        codes: list[Tensor] = []
        for codebook in self.codebooks:
            chosen = codebook.encode(residual)
            residual = residual - codebook.decode(chosen)
            codes.append(chosen)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor, onto: Tensor | None = None, *, partial: bool = False) -> Tensor:
        """Return latents ``[batch, frames, dimension]`` of codes ``[batch, n, frames]``, for any n up to the count.

        They are added to ``onto``, if there is any. Of ``partial`` codes a negative one adds nothing.
        """
        return self.unproject(self._summed(codes, partial=partial), onto)

    def _summed(self, codes: Tensor, *, partial: bool) -> Tensor:
        first, count = self.codebooks[0], codes.shape[1]
        if kernels.apply_to(codes):
            from duplex.backends.torch.kernels.embedding import sum_embedded  # noqa: PLC0415 -- needs Triton

            rows = codes.transpose(1, 2).reshape(-1, count)
            tables = [codebook.entries for codebook in self.codebooks[:count]]
            return sum_embedded(tables, rows).view(len(codes), codes.shape[2], -1)
        decode = Codebook.decode_partial if partial else Codebook.decode
        total = decode(first, codes[:, 0])
        for index in range(1, count):
            total = total + decode(self.codebooks[index], codes[:, index])
        return total


class SplitQuantizer(nn.Module):
    """The semantic codebook and the acoustic chain side by side; their sum is the latent."""

    def __init__(self, config: QuantizerConfig, codebooks: int) -> None:
        super().__init__()
        self.rvq_first: ResidualQuantizer = ResidualQuantizer(config, 1)
        self.rvq_rest: ResidualQuantizer = ResidualQuantizer(config, codebooks - 1)
        self.partial: bool = False
        """Whether codes may be left out in decoding: negative ones, which add nothing."""

    def prepare(self) -> None:
        """Compute all entries from what was loaded."""
        for codebook in (*self.rvq_first.codebooks, *self.rvq_rest.codebooks):
            codebook.prepare()

    def encode(self, x: Tensor) -> Tensor:
        """Return codes ``[batch, codebooks, frames]`` of latents ``[batch, frames, dimension]``, the semantic first."""
        return torch.cat([self.rvq_first.encode(x), self.rvq_rest.encode(x)], dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return latents ``[batch, frames, dimension]`` of codes ``[batch, n, frames]``, for any n up to all."""
        latent = self.rvq_first.decode(codes[:, :1], partial=self.partial)
        return latent if codes.shape[1] == 1 else self.rvq_rest.decode(codes[:, 1:], latent, partial=self.partial)
