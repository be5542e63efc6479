"""Attention over a ring of past positions, slot by slot.

One ring per transformer holds the keys and values of its layers, ``[2, heads, capacity, head_dim]`` for each layer of a
slot. Position p of a stream lies at index ``p % capacity``. The canonical computation is one call per frame, in which
the ring holds ``context`` positions up to the frame's last; a call with several frames reproduces it by mask. A ring of
``context`` plus what one call may add, less a frame, keeps what such a call still needs.
"""

import math

import attrs
import mlx.core as mx

from duplex.backends.mlx.arrays import shaped
from duplex.backends.mlx.linear import Linear
from duplex.backends.mlx.module import Module
from duplex.backends.mlx.state import Call, StateSpec, Streaming

__all__ = ["Attention", "AttentionWindow", "RingCache", "attend", "split_heads"]


@attrs.frozen(eq=False)
class AttentionWindow:
    """What all layers of a transformer share in one call: where to write, what to see, how to rotate."""

    call: Call
    key: str
    """The ring's, in the states of the call."""
    index: mx.array
    """Where this call's positions go, ``[batch, positions]``."""
    whole: bool
    """Whether these places lie side by side, never around the ring's end."""
    length: int
    """How much of the ring is read."""
    mask: mx.array
    """What each position sees, bool ``[batch, 1, positions, length]``."""
    rotation: tuple[mx.array, mx.array]
    """Cosines and sines, float32 ``[batch, 1, positions, head_dim // 2]``."""
    halves: bool
    """Whether pairs are turned that lie half a head apart, rather than neighbours."""

    def rotate(self, x: mx.array) -> mx.array:
        """Turn pairs of ``x`` ``[..., batch, heads, positions, head_dim]`` by their position (RoPE)."""
        cosine, sine = self.rotation
        if self.halves:
            first, second = mx.split(x.astype(mx.float32), 2, axis=-1)
            turned = mx.concatenate([first * cosine - second * sine, first * sine + second * cosine], axis=-1)
            return turned.astype(x.dtype)
        pairs = shaped(x.astype(mx.float32), *x.shape[:-1], -1, 2)
        first, second = pairs[..., 0], pairs[..., 1]
        turned = mx.stack([first * cosine - second * sine, first * sine + second * cosine], axis=-1)
        return shaped(turned, *x.shape).astype(x.dtype)

    def attend(self, layer: int, query: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        """Put a layer's new keys and values into the ring and return what the queries see there.

        All are ``[batch, heads, positions, head_dim]``; each of the fewer heads of keys and values serves as many
        consecutive heads of queries.
        """
        name, seen = f"{self.key}.cache.{layer}", list[mx.array]()
        for row, state in enumerate(self.call.rows):
            new = mx.stack([keys[row], values[row]])
            ring = state[name]
            if self.whole:
                ring = mx.slice_update(ring, new, self.index[row, :1], axes=(2,))
            else:
                ring[:, :, self.index[row]] = new
            state[name] = ring
            past = ring[:, :, : self.length]
            one = slice(row, row + 1)
            seen.append(attend(query[one], past[:1], past[1:], self.mask[one]))
        return seen[0] if len(seen) == 1 else mx.concatenate(seen)


class RingCache(Streaming):
    """The past of one transformer."""

    def __init__(
        self,
        *,
        layers: int,
        heads: int,
        head_dim: int,
        context: int,
        period: float,
        positions_per_frame: int,
        halves: bool = False,
    ) -> None:
        super().__init__()
        self.context = context
        self.per_frame = positions_per_frame
        self.layers = layers
        self.heads = heads
        self.head_dim = head_dim
        self.period = period
        self.halves = halves
        self.capacity: int = context

    def state_spec(self, frames_per_call: int) -> dict[str, StateSpec]:
        """Return the ring itself and how many positions each stream has had."""
        self.capacity = self.context + (frames_per_call - 1) * self.per_frame
        layer = StateSpec((2, self.heads, self.capacity, self.head_dim))
        caches = {f"cache.{index}": layer for index in range(self.layers)}
        return {**caches, "position": StateSpec((), mx.int32)}

    def window(self, call: Call, positions: int) -> AttentionWindow:
        """Open the window of one call of ``positions`` new positions, and count them."""
        capacity = call.rows[0][f"{self.key}.cache.0"].shape[-2]
        assert positions <= capacity - self.context + self.per_frame, "more positions than the ring takes"
        start = call.read(f"{self.key}.position")
        query = start[:, None] + mx.arange(positions, dtype=mx.int32)
        length = min(capacity, (call.filled or capacity) * self.per_frame)
        last = query[:, -1:]
        seen = last - (last - mx.arange(length, dtype=mx.int32)) % capacity
        window = AttentionWindow(
            call,
            self.key,
            query % capacity,
            positions == 1 or (positions == self.per_frame and capacity % positions == 0),
            length,
            self._mask(query[:, :, None], seen[:, None, :])[:, None],
            self._rotation(query),
            self.halves,
        )
        call.advance(f"{self.key}.position", positions)
        return window

    def _mask(self, query: mx.array, seen: mx.array) -> mx.array:
        frame_end = (query // self.per_frame + 1) * self.per_frame - 1
        return (seen >= 0) & (seen <= query) & (seen > frame_end - self.context)

    def _rotation(self, query: mx.array) -> tuple[mx.array, mx.array]:
        exponent = -2 * math.log(self.period) / self.head_dim
        frequencies = mx.exp(mx.arange(self.head_dim // 2, dtype=mx.float32) * exponent)
        angle = query.astype(mx.float32)[:, None, :, None] * frequencies
        return mx.cos(angle), mx.sin(angle)


class Attention(Module):
    """Multi-head self-attention without biases, ``[batch, positions, dim]`` to the same.

    ``repeat`` consecutive heads of queries share a key and a value.
    """

    def __init__(self, dim: int, heads: int, repeat: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.repeat = repeat
        self.in_proj: Linear = Linear(dim, dim + 2 * dim // repeat)
        self.out_proj: Linear = Linear(dim, dim)

    def __call__(self, x: mx.array, window: AttentionWindow, layer: int) -> mx.array:
        """Attend from every position of ``x`` to what its window shows."""
        if self.repeat > 1:
            query, key, value = split_heads(self.in_proj(x), self.heads, self.repeat)
            y = window.attend(layer, window.rotate(query), window.rotate(key), value)
        else:
            projected = mx.transpose(shaped(self.in_proj(x), *x.shape[:2], 3, self.heads, -1), (2, 0, 3, 1, 4))
            turned = window.rotate(projected[:2])
            y = window.attend(layer, turned[0], turned[1], projected[2])
        return self.out_proj(shaped(y.swapaxes(1, 2), *x.shape))


def split_heads(projected: mx.array, heads: int, repeat: int) -> tuple[mx.array, mx.array, mx.array]:
    """Return queries, keys and values ``[batch, heads, positions, head_dim]``, the latter of ``heads // repeat`` heads.

    ``projected`` is ``[batch, positions, (heads + 2 * heads // repeat) * head_dim]``.
    """
    by_head = shaped(projected, *projected.shape[:2], heads + 2 * (heads // repeat), -1).swapaxes(1, 2)
    shared = heads + heads // repeat
    return by_head[:, :heads], by_head[:, heads:shared], by_head[:, shared:]


def attend(query: mx.array, keys: mx.array, values: mx.array, mask: mx.array | None = None) -> mx.array:
    """Return ``[batch, heads, positions, head_dim]``, of the query's shape; ``mask`` says what each position sees."""
    return mx.fast.scaled_dot_product_attention(query, keys, values, scale=query.shape[-1] ** -0.5, mask=mask)
