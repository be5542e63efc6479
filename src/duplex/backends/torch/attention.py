"""Attention over a ring of past positions, with a slot axis.

One ring per transformer holds the keys and values of its layers, ``[slots, 2, heads, capacity, head_dim]`` for each.
Position p of a stream lies at index ``p % capacity``. The canonical computation is one call per frame, in which the
ring holds ``context`` positions up to the frame's last; a call with several frames reproduces it by mask. A ring of
``context`` plus what one call may add, less a frame, keeps what such a call still needs.
"""

import math

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch.state import Call, Declared, Streaming

__all__ = ["Attention", "Ring", "Window"]


@attrs.frozen(eq=False)
class Window:
    """What all layers of a transformer share in one call: where to write, what to see, how to rotate."""

    cache: list[Tensor] | None
    """The ring, a layer's ``[slots, 2, heads, capacity, head_dim]`` each; ``None`` without a past."""
    runs: tuple[slice, ...]
    """The ring's slots that the batch is."""
    index: Tensor
    """Where this call's positions go, int64 ``[batch, positions]``."""
    length: int
    """How much of the ring is read."""
    mask: Tensor
    """What each position sees, bool ``[batch, 1, positions, length]``."""
    rotation: Tensor
    """Complex numbers of size one, ``[batch, 1, positions, head_dim // 2]``."""

    def rotate(self, x: Tensor) -> Tensor:
        """Turn interleaved pairs of ``x`` ``[..., batch, heads, positions, head_dim]`` by their position (RoPE)."""
        pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.rotation).flatten(-2).to(x.dtype)

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Put a layer's new keys and values into the ring and return what the queries see there.

        All are ``[batch, heads, positions, head_dim]``.
        """
        if self.cache is None:
            return _attend(query, keys, values, self.mask)
        index = self.index[:, None, :, None].expand_as(keys)
        ring, seen, first = self.cache[layer], list[Tensor](), 0
        for run in self.runs:
            part = slice(first, first := first + run.stop - run.start)
            ring_keys, ring_values = ring[run].unbind(1)
            ring_keys.scatter_(2, index[part], keys[part])
            ring_values.scatter_(2, index[part], values[part])
            past = ring_keys[:, :, : self.length], ring_values[:, :, : self.length]
            seen.append(_attend(query[part], *past, self.mask[part]))
        return seen[0] if len(seen) == 1 else torch.cat(seen)


class Ring(Streaming):
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
    ) -> None:
        super().__init__()
        self.context = context
        self.per_frame = positions_per_frame
        self.layers = layers
        self.heads = heads
        self.head_dim = head_dim
        self.exponents = -2 * math.log(period) / head_dim, head_dim // 2

    def declare(self, frames_per_call: int) -> dict[str, Declared]:
        """Return the ring itself and how many positions each stream has had."""
        capacity = self.context + (frames_per_call - 1) * self.per_frame
        layer = Declared((2, self.heads, capacity, self.head_dim))
        caches = {f"cache.{index}": layer for index in range(self.layers)}
        return {**caches, "position": Declared((), torch.int64)}

    def window(self, call: Call, batch: int, positions: int, device: torch.device) -> Window:
        """Open the window of one call of ``positions`` new positions, and count them."""
        start = call.recall(f"{self.key}.position")
        cache = None
        if start is None:
            start = torch.zeros(batch, dtype=torch.int64, device=device)
        elif call.state is not None:
            cache = [call.state.tensors[f"{self.key}.cache.{index}"] for index in range(self.layers)]
        query = start[:, None] + torch.arange(positions, device=device)
        index = seen = query
        length = positions
        if cache is not None:
            capacity = cache[0].shape[-2]
            assert positions <= capacity - self.context + self.per_frame, "more positions than the ring takes"
            length = min(capacity, (call.filled or capacity) * self.per_frame)
            last = query[:, -1:]
            index = query % capacity
            seen = last - (last - torch.arange(length, device=device)) % capacity
        mask = self._mask(query[:, :, None], seen[:, None, :])
        runs = (slice(0, batch),) if call.rows is None else call.rows.runs
        window = Window(cache, runs, index, length, mask[:, None], self._rotation(query))
        call.advance(f"{self.key}.position", positions)
        return window

    def _mask(self, query: Tensor, seen: Tensor) -> Tensor:
        frame_end = (query // self.per_frame + 1) * self.per_frame - 1
        return (seen >= 0) & (seen <= query) & (seen > frame_end - self.context)

    def _rotation(self, query: Tensor) -> Tensor:
        exponent, count = self.exponents
        frequencies = torch.exp(torch.arange(count, device=query.device, dtype=torch.float32) * exponent)
        angle = query.float()[:, None, :, None] * frequencies
        return torch.polar(torch.ones_like(angle), angle)


class Attention(nn.Module):
    """Multi-head self-attention without biases, ``[batch, positions, dim]`` to the same."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, window: Window, layer: int) -> Tensor:
        """Attend from every position of ``x`` to what its window shows."""
        projected = functional.linear(x, self.in_proj_weight).view(*x.shape[:2], 3, self.heads, -1)
        projected = projected.permute(2, 0, 3, 1, 4)
        query, keys = window.rotate(projected[:2])
        y = window.attend(layer, query, keys, projected[2])
        return self.out_proj(y.transpose(1, 2).flatten(-2))


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Return ``[batch, heads, positions, head_dim]``, of the query's shape; ``mask`` says what each position sees."""
    learning = torch.is_grad_enabled() and query.requires_grad and query.dtype == torch.bfloat16
    if not learning or query.device.type != "cpu":
        return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    # The fused kernel's backward pass is slow in bfloat16 on a CPU; the products by themselves are twice as fast.
    with torch.autocast("cpu", enabled=False):
        unseen = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, float("-inf"))
        scores = query @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5 + unseen
        return torch.softmax(scores, dim=-1) @ values
