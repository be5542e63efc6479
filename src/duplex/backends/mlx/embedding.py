"""Token embeddings with the published convention that token -1 adds nothing."""

import mlx.core as mx

from duplex.backends.mlx.linear import Matrix
from duplex.frame_model import ZERO

__all__ = ["TokenEmbedding"]


class TokenEmbedding(Matrix):
    """An embedding table whose last row is the initial token's; ``ZERO`` embeds to zero."""

    def __call__(self, x: mx.array) -> mx.array:
        """Embed integers ``[...]`` to ``[..., dim]``."""
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
