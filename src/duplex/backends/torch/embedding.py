"""Token embeddings with the published convention that token -1 adds nothing."""

from torch import Tensor, nn

from duplex.backends.torch import kernels
from duplex.frame_model import ZERO

__all__ = ["TokenEmbedding"]


class TokenEmbedding(nn.Embedding):
    """An embedding table whose last row is the initial token's; ``ZERO`` embeds to zero."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__(rows, dim)  # pyright: ignore[reportUnknownMemberType] -- torch leaves its arguments untyped

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's name
        """Embed int64 ``[...]`` to ``[..., dim]``."""
        embedded = super().forward(input.clamp(min=0))
        return embedded.masked_fill((input == ZERO)[..., None], 0)

    def added_to(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Return ``x`` ``[batch, dim]`` plus the embeddings of ``tokens`` int64 ``[batch]``."""
        if kernels.apply_to(x):
            from duplex.backends.torch.kernels.embedding import add_embedded  # noqa: PLC0415 -- needs Triton

            return add_embedded(x, self.weight, tokens)
        return x + self(tokens)
