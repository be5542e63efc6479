"""Attention of the temporal layers to a session's conditions: computed once, when its slot opens, and held there."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch.fusion import Fusion
from duplex.backends.torch.linear import Projection, linear, part
from duplex.backends.torch.norm import Norm
from duplex.backends.torch.state import Call, SlotState, StateSpec, Streaming
from duplex.errors import UsageError

__all__ = ["MOST_VECTORS", "CrossAttention"]

MOST_VECTORS = 625
"""Vectors that a session may attend to: the published models' five voices of ten seconds each."""
_QUERY, _KEY, _VALUE = range(3)


class CrossAttention(Streaming):
    """Multi-head attention without biases, positions or order, beside the identity."""

    copies = 1
    """Rows of a slot: 2 with guidance."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.heads = heads
        self.in_proj_weight: nn.Parameter = nn.Parameter(torch.empty(3 * dim, dim))
        self.out_proj: Projection = Projection(dim, dim)

    def state_spec(self, frames_per_call: int) -> dict[str, StateSpec]:
        """Return the keys and values of each row's conditions, and which of them are not there."""
        return {
            "source": StateSpec((self.copies, 2, self.heads, MOST_VECTORS, self.dim // self.heads)),
            "absent": StateSpec((self.copies, MOST_VECTORS), torch.bool),
        }

    def remember(self, rows: SlotState, copy: int, source: Tensor) -> None:
        """Hold the conditions ``[n, dim]`` of one of a slot's rows; the state is of this slot alone.

        :raises UsageError: if they are too many
        """
        if len(source) > MOST_VECTORS:
            raise UsageError(f"a session is conditioned on {len(source)} vectors; give {MOST_VECTORS} at most")
        held, absent = (rows.tensors[f"{self.key}.{name}"][0, copy] for name in ("source", "absent"))
        for place, which in enumerate((_KEY, _VALUE)):
            made = linear(source, part(self.in_proj_weight, which, 3))
            held[place, :, : len(source)] = made.view(len(source), self.heads, -1).transpose(0, 1)
        absent[len(source) :] = True

    def forward(self, x: Tensor, call: Call, norm: Norm) -> Tensor:
        """Add to ``x`` ``[batch, positions, dim]``, used up, what its normed positions see of their conditions."""
        source, absent = call.read(f"{self.key}.source"), call.read(f"{self.key}.absent")
        assert source is not None, "conditions are a session's"
        assert absent is not None
        query = linear(x, part(self.in_proj_weight, _QUERY, 3), fusion=Fusion(norm=norm))
        query = query.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)
        keys, values = source.flatten(0, 1).unbind(1)
        mask = ~absent.flatten(0, 1)[:, None, None]
        seen = functional.scaled_dot_product_attention(query, keys, values, mask)
        return self.out_proj(seen.transpose(1, 2).flatten(2), Fusion(onto=x))
