"""Attention to a session's conditions: what they are is computed once, when its slot opens, and lies in its state."""

import mlx.core as mx

from duplex.backends.mlx.arrays import shaped
from duplex.backends.mlx.attention import attend
from duplex.backends.mlx.linear import Linear
from duplex.backends.mlx.module import Module
from duplex.backends.mlx.state import Call

__all__ = ["CROSS", "CrossAttention"]

CROSS = "lm.cross"
"""Prefix of the names of each layer's keys and values in a state, ``[2, heads, vectors, head_dim]``."""


class CrossAttention(Module):
    """Multi-head attention without biases, positions or mask, ``[batch, positions, dim]`` to the same."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj: Linear = Linear(dim, 3 * dim)
        self.out_proj: Linear = Linear(dim, dim)

        self.query: Linear | None = None

    def divide(self) -> None:
        """Part the queries' projection, which every step takes, from that of keys and values."""
        rows = self.in_proj.columns
        self.query = self.in_proj.part(0, rows)
        self.in_proj: Linear = self.in_proj.part(rows, 3 * rows)

    def __call__(self, x: mx.array, call: Call, layer: int) -> mx.array:
        """Attend from every position of ``x`` to the conditions of its row."""
        assert self.query is not None
        query = self._by_head(self.query(x))
        seen: list[mx.array] = []
        for row, state in enumerate(call.rows):
            keys, values = mx.split(state[f"{CROSS}.{layer}"], 2)
            seen.append(attend(query[row : row + 1], keys, values))
        y = seen[0] if len(seen) == 1 else mx.concatenate(seen)
        return self.out_proj(shaped(y.swapaxes(1, 2), *x.shape))

    def remembered(self, source: mx.array) -> mx.array:
        """Return keys and values ``[2, heads, vectors, head_dim]`` of conditions ``[vectors, dim]``."""
        keys, values = mx.split(self.in_proj(source[None]), 2, axis=-1)
        return mx.concatenate([self._by_head(keys), self._by_head(values)])

    def _by_head(self, x: mx.array) -> mx.array:
        return shaped(x, *x.shape[:2], self.heads, -1).swapaxes(1, 2)
