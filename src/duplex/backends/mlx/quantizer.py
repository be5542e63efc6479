"""Mimi's split residual quantizer: one semantic codebook beside a residual chain of acoustic ones (section 3.3.2)."""

import mlx.core as mx

from duplex.backends.mlx.arrays import evaluate, taken
from duplex.backends.mlx.module import Module
from duplex.checkpoints.mimi_config import QuantizerConfig

__all__ = ["Codebook", "SplitQuantizer"]


class Codebook(Module):
    """Vectors to the index of their nearest entry, and back.

    Published files hold the running sums of training, ``embedding_sum`` over ``cluster_usage``; :meth:`prepare` turns
    them into entries once.
    """

    SMALLEST_USAGE = 1e-5

    def __init__(self, bins: int, dimension: int) -> None:
        super().__init__()
        self.embedding_sum: mx.array = mx.zeros((bins, dimension))
        self.cluster_usage: mx.array = mx.ones(bins)

    def prepare(self) -> None:
        """Compute the entries, and half their squared lengths, from what was loaded."""
        total, usage = taken(self, "embedding_sum"), taken(self, "cluster_usage")
        self._entries = total / mx.maximum(usage, self.SMALLEST_USAGE)[:, None]
        self._across = mx.contiguous(self._entries.T)
        self._offsets = self._entries.square().sum(axis=-1) / 2
        evaluate(self._entries, self._across, self._offsets)

    def encode(self, x: mx.array) -> mx.array:
        """Return the indices int32 ``[...]`` of the nearest entries of ``x`` ``[..., dimension]``.

        The squared distance is |x|^2 - 2 (x.e - |e|^2 / 2), and |x|^2 is the same for all entries.
        """
        return (x @ self._across - self._offsets).argmax(axis=-1).astype(mx.int32)

    def decode(self, codes: mx.array) -> mx.array:
        """Return the entries ``[..., dimension]`` of ``codes`` ``[...]``."""
        return self._entries[codes]

    def decode_partial(self, codes: mx.array) -> mx.array:
        """Return the same, and zeros for a negative code."""
        return mx.where((codes < 0)[..., None], 0, self._entries[mx.maximum(codes, 0)])


class VectorQuantization(Module):
    """A codebook at its place in published files."""

    def __init__(self, bins: int, dimension: int) -> None:
        super().__init__()
        self.codebook: Codebook = Codebook(bins, dimension)


class Projection(Module):
    """A convolution of width one: a matrix, with the published shape ``[out, in, 1]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight: mx.array = mx.zeros((outputs, inputs, 1))

    def prepare(self) -> None:
        """Turn the loaded weight into the matrix ``[in, out]``."""
        self._matrix = mx.contiguous(taken(self, "weight")[:, :, 0].T)
        evaluate(self._matrix)

    def __call__(self, x: mx.array) -> mx.array:
        """Multiply ``[..., in]``."""
        return x @ self._matrix


class ResidualQuantizer(Module):
    """A chain of codebooks, each for what the ones before have left over, in a projected space."""

    def __init__(self, config: QuantizerConfig, count: int) -> None:
        super().__init__()
        self.input_proj: Projection = Projection(config.input_dimension, config.dimension)
        self.output_proj: Projection = Projection(config.dimension, config.output_dimension)
        self.vq: dict[str, list[VectorQuantization]] = {
            "layers": [VectorQuantization(config.bins, config.dimension) for _ in range(count)]
        }

    def encode(self, x: mx.array) -> mx.array:
        """Return codes ``[batch, count, frames]`` of latents ``[batch, frames, dimension]``."""
        residual = self.input_proj(x)
        codes: list[mx.array] = []
        for layer in self.vq["layers"]:
            chosen = layer.codebook.encode(residual)
            residual = residual - layer.codebook.decode(chosen)
            codes.append(chosen)
        return mx.stack(codes, axis=1)

    def decode(self, codes: mx.array, *, partial: bool = False) -> mx.array:
        """Return latents ``[batch, frames, dimension]`` of codes ``[batch, n, frames]``, for any n up to the count.

        Of ``partial`` codes a negative one adds nothing.
        """
        layers = self.vq["layers"]
        decode = Codebook.decode_partial if partial else Codebook.decode
        total = decode(layers[0].codebook, codes[:, 0])
        for index in range(1, codes.shape[1]):
            total = total + decode(layers[index].codebook, codes[:, index])
        return self.output_proj(total)


class SplitQuantizer(Module):
    """The semantic codebook and the acoustic chain side by side; their sum is the latent."""

    def __init__(self, config: QuantizerConfig, codebooks: int) -> None:
        super().__init__()
        self.rvq_first: ResidualQuantizer = ResidualQuantizer(config, 1)
        self.rvq_rest: ResidualQuantizer = ResidualQuantizer(config, codebooks - 1)
        self.partial: bool = False
        """Whether codes may be left out in decoding: negative ones, which add nothing."""

    def encode(self, x: mx.array) -> mx.array:
        """Return codes ``[batch, codebooks, frames]`` of latents ``[batch, frames, dimension]``, the semantic first."""
        return mx.concatenate([self.rvq_first.encode(x), self.rvq_rest.encode(x)], axis=1)

    def decode(self, codes: mx.array) -> mx.array:
        """Return latents ``[batch, frames, dimension]`` of codes ``[batch, n, frames]``, for any n up to all."""
        latent = self.rvq_first.decode(codes[:, :1], partial=self.partial)
        if codes.shape[1] == 1:
            return latent
        return latent + self.rvq_rest.decode(codes[:, 1:], partial=self.partial)
