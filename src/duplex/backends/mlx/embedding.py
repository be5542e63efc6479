"""Token embeddings with the published convention that token -1 adds nothing."""

import mlx.core as mx

from duplex.backends.mlx.linear import Linear, Matrix
from duplex.frame_model import ZERO

__all__ = ["DemuxedEmbedding", "LowRankEmbedding", "TokenEmbedding"]


class TokenEmbedding(Matrix):
    """An embedding table whose last row is the initial token's; ``ZERO`` embeds to zero."""

    def __call__(self, x: mx.array) -> mx.array:
        """Embed integers ``[...]`` to ``[..., dim]``."""
        return self.row(x)

    def row(self, x: mx.array) -> mx.array:
        """Return the table's rows for integers ``[...]``, of as many numbers as the table has columns."""
        index = mx.maximum(x, 0)
        embedded = self.weight[index]
        if self.packing is not None:
            embedded = mx.dequantize(
                embedded,
                self.scales[index],
                self.biases[index],
                group_size=self.packing.group,
                bits=self.packing.bits,
            )
        return mx.where((x == ZERO)[..., None], mx.zeros((), embedded.dtype), embedded)

    def repeat_row(self, source: int, target: int) -> None:
        """Make one token's row the same as another's."""
        for name in ("weight",) if self.packing is None else ("weight", "scales", "biases"):
            rows: mx.array = self[name]
            rows[target] = rows[source]


class LowRankEmbedding(TokenEmbedding):
    """A narrow table, and a product that widens its rows."""

    def __init__(self, vocabulary: int, dim: int, rank: int) -> None:
        super().__init__(vocabulary, rank)
        self.low_rank: Linear = Linear(rank, dim)

    def __call__(self, x: mx.array) -> mx.array:
        """Embed integers ``[...]`` to ``[..., dim]``."""
        return self.low_rank(self.row(x))


class DemuxedEmbedding(TokenEmbedding):
    """The text of two streams in one token: main token m and second s are ``(s + 1) * vocabulary + m``.

    ``ZERO`` embeds to zero, and a second token of -1 adds nothing.
    """

    def __init__(self, vocabulary: int, dim: int, rank: int | None = None) -> None:
        super().__init__(vocabulary, rank or dim)
        if rank:  # in published files, but of no use: out1 and out2 widen the rows
            self.low_rank: Linear = Linear(rank, dim)
        self.out1: Linear = Linear(rank or dim, dim)
        self.out2: Linear = Linear(rank or dim, dim)

    def __call__(self, x: mx.array) -> mx.array:
        """Embed integers ``[...]`` to ``[..., dim]``."""
        main = mx.where(x == ZERO, ZERO, x % self.rows)
        second = mx.where(x == ZERO, ZERO, x // self.rows - 1)
        return self.out1(self.row(main)) + self.out2(self.row(second))
