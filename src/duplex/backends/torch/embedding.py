"""Token embeddings with the published convention that token -1 adds nothing."""

import torch
from torch import Tensor, nn

from duplex.backends.torch import kernels
from duplex.frame_model import ZERO

__all__ = ["DemuxedEmbedding", "LowRankEmbedding", "TokenEmbedding"]


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


class LowRankEmbedding(TokenEmbedding):
    """A narrow table, and a product that widens its rows."""

    def __init__(self, rows: int, dim: int, rank: int) -> None:
        super().__init__(rows, rank)
        self.low_rank: nn.Linear = nn.Linear(rank, dim, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's name
        """Embed int64 ``[...]`` to ``[..., dim]``."""
        return self.low_rank(super().forward(input))

    def added_to(self, x: Tensor, tokens: Tensor) -> Tensor:
        """See :meth:`TokenEmbedding.added_to`."""
        return x + self(tokens)


class DemuxedEmbedding(TokenEmbedding):
    """The text of two streams in one token: main token m and second s are ``(s + 1) * rows + m``.

    ``ZERO`` embeds to zero, and a second token of -1 adds nothing.
    """

    def __init__(self, rows: int, dim: int, rank: int | None = None) -> None:
        super().__init__(rows, rank or dim)
        if rank:  # in published files, and of no use: the two below widen the rows
            self.low_rank: nn.Linear = nn.Linear(rank, dim, bias=False)
        self.out1: nn.Linear = nn.Linear(rank or dim, dim, bias=False)
        self.out2: nn.Linear = nn.Linear(rank or dim, dim, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's name
        """Embed int64 ``[...]`` to ``[..., dim]``."""
        rows = self.num_embeddings
        main = (input % rows).masked_fill(input == ZERO, ZERO)
        second = torch.div(input, rows, rounding_mode="floor") - 1
        return self.out1(super().forward(main)) + self.out2(super().forward(second.clamp(min=ZERO)))

    def added_to(self, x: Tensor, tokens: Tensor) -> Tensor:
        """See :meth:`TokenEmbedding.added_to`."""
        return x + self(tokens)
