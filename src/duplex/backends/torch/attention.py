"""Attention over a ring of past positions, with a slot axis.

One ring per transformer holds the keys and values of its layers, ``[slots, 2, shared, capacity, head_dim]`` for each,
in the transformer's dtype or as int8 with a float32 scale for each vector. Each of the ``shared`` heads of keys and
values serves as many consecutive heads of queries (grouped-query attention), most often one. Position p of a stream
lies at index ``p % capacity``. The canonical computation is one call per frame, in which the ring holds ``context``
positions up to the frame's last; a call with several frames reproduces it by mask. A ring of ``context`` plus what one
call may add, less a frame, keeps what such a call still needs.
"""

import functools
import math
from typing import Protocol

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from duplex.backends.torch import kernels
from duplex.backends.torch.fusion import Fusion
from duplex.backends.torch.kv_cache import KeyValueCache, visible
from duplex.backends.torch.linear import Projection, linear
from duplex.backends.torch.norm import Norm
from duplex.backends.torch.state import Call, StateSpec, Streaming

__all__ = ["Attention", "AttentionWindow", "RingCache"]


class AttentionWindow(Protocol):
    """What all layers of a transformer share in one call: where to write, what to see, how to rotate."""

    def attend(self, layer: int, projected: Tensor) -> Tensor:
        """Put a layer's new keys and values into its ring and return what the queries see there.

        ``projected`` is ``[batch, positions, heads + 2 * shared, head_dim]``: queries, keys and values, not yet
        rotated. Returns ``[batch, positions, heads * head_dim]``.
        """
        ...


@attrs.frozen(eq=False)
class MaskedAttention:
    """Any number of new positions, with or without a past: what is seen is told by a mask."""

    past: KeyValueCache | None
    runs: Tensor
    """The ring's slots that the batch is, int64 ``[runs, 2]``."""
    index: Tensor
    """Where this call's positions go, int64 ``[batch, positions]``."""
    mask: Tensor
    """What each position sees, bool ``[batch, 1, positions, length]``."""
    rotation: Tensor
    """Complex numbers of size one, ``[batch, 1, positions, head_dim // 2]``."""
    shared: int
    """Heads of keys and values."""

    def attend(self, layer: int, projected: Tensor) -> Tensor:
        """See :meth:`AttentionWindow.attend`."""
        projected = projected.transpose(1, 2)
        heads = projected.shape[1] - 2 * self.shared
        turned = self._rotate(projected[:, : heads + self.shared])
        values = projected[:, heads + self.shared :]
        return self._seen(layer, turned[:, :heads], turned[:, heads:], values).transpose(1, 2).flatten(-2)

    def _rotate(self, x: Tensor) -> Tensor:
        """Turn interleaved pairs of ``x`` ``[batch, heads, positions, head_dim]`` by their position (RoPE)."""
        pairs = torch.view_as_complex(x.float().view(*(x.shape[axis] for axis in range(x.ndim - 1)), -1, 2))
        return torch.view_as_real(pairs * self.rotation).flatten(-2).to(x.dtype)

    def _seen(self, layer: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if self.past is None:
            return _attend(query, keys, values, self.mask)
        return self.past.attend(layer, query, torch.stack([keys, values], dim=1), self.index, self.mask, self.runs)


@attrs.frozen(eq=False)
class FusedAttention:
    """One frame of every row on CUDA: kernels find the rows' slots and positions on the device."""

    past: KeyValueCache
    slots: Tensor
    """int64 ``[batch]``"""
    position: Tensor
    """Where the frame's first position stands, int64 ``[batch]``."""
    rotation: Tensor
    """Cosine and sine in turn, float32 ``[batch, positions, head_dim]``."""
    arrived: Tensor
    """Zeros for the kernels to count with, int32 ``[batch * positions * heads]``."""
    context: int

    def attend(self, layer: int, projected: Tensor) -> Tensor:
        """See :meth:`AttentionWindow.attend`."""
        from duplex.backends.torch.kernels.attention import attend  # noqa: PLC0415 -- needs Triton

        cache, scale = self.past.cache[layer], self.past.scale[layer] if self.past.scale else None
        place = (cache, scale, self.slots, self.position)
        return attend(projected, self.rotation, *place, self.arrived, context=self.context)


class RingCache(Streaming):
    """The past of one transformer."""

    quantized = False
    """Whether keys and values are held as int8, which halves what they take in bfloat16."""
    copies = 1
    """Rows of a slot, side by side in a batch: 2 with guidance. They are at the same position."""

    def __init__(
        self,
        *,
        layers: int,
        heads: int,
        head_dim: int,
        context: int,
        period: float,
        positions_per_frame: int,
        repeat: int = 1,
    ) -> None:
        super().__init__()
        self.context = context
        self.per_frame = positions_per_frame
        self.layers = layers
        self.heads = heads
        self.shared: int = heads // repeat
        self.head_dim = head_dim
        self.exponents: tuple[float, int] = -2 * math.log(period) / head_dim, head_dim // 2

    def state_spec(self, frames_per_call: int) -> dict[str, StateSpec]:
        """Return the ring itself and how many positions each stream has had."""
        capacity = self.context + (frames_per_call - 1) * self.per_frame
        dtype = torch.int8 if self.quantized else None
        copies = () if self.copies == 1 else (self.copies,)
        layer = StateSpec((*copies, 2, self.shared, capacity, self.head_dim), dtype, spared=True)
        caches = {f"cache.{index}": layer for index in range(self.layers)}
        if self.quantized:
            scale = StateSpec((*copies, 2, self.shared, capacity, 1), torch.float32, spared=True)
            caches |= {f"cache.scale.{index}": scale for index in range(self.layers)}
        return {**caches, "position": StateSpec((), torch.int64)}

    def window(self, call: Call, batch: int, positions: int, device: torch.device) -> AttentionWindow:
        """Open the window of one call of ``positions`` new positions, and count them."""
        if call.state is not None and positions == self.per_frame and self.fits_kernels:
            position = call.state.tensors[f"{self.key}.position"]
            if kernels.apply_to(position):
                return self._fused(self._past(call.state.tensors), position, call.slots(batch // self.copies, device))
        start = call.read(f"{self.key}.position")
        past = None
        if start is None:
            start = torch.zeros(batch // self.copies, dtype=torch.int64, device=device)
        elif call.state is not None:
            past = self._past(call.state.tensors)
        start = start if self.copies == 1 else start.repeat_interleave(self.copies)
        window = self._masked(past, call, start[:, None] + torch.arange(positions, device=device))
        call.advance(f"{self.key}.position", positions)
        return window

    def _past(self, tensors: dict[str, Tensor]) -> KeyValueCache:
        names = [f"{self.key}.cache.{index}" for index in range(self.layers)]
        scales = [f"{self.key}.cache.scale.{index}" for index in range(self.layers)]
        scale = [tensors[name] for name in scales] if self.quantized else None
        cache = [tensors[name] for name in names]
        if self.copies == 1:
            return KeyValueCache(cache, scale)
        return KeyValueCache([each.flatten(0, 1) for each in cache], scale and [each.flatten(0, 1) for each in scale])

    @property
    def fits_kernels(self) -> bool:
        """Whether kernels can work on vectors of this size."""
        return self.head_dim.bit_count() == 1

    def _fused(self, past: KeyValueCache, position: Tensor, slots: Tensor) -> AttentionWindow:
        from duplex.backends.torch.kernels.rope import advance  # noqa: PLC0415 -- needs Triton

        frequencies = _frequencies(*self.exponents, slots.device)
        begin, rotation, zeros = advance(position, slots, frequencies, self.per_frame, self.heads * self.copies)
        if self.copies > 1:
            slots = (slots[:, None] * self.copies + torch.arange(self.copies, device=slots.device)).flatten()
            begin, rotation = (each.repeat_interleave(self.copies, dim=0) for each in (begin, rotation))
        return FusedAttention(past, slots, begin, rotation, zeros, self.context)

    def _masked(self, past: KeyValueCache | None, call: Call, query: Tensor) -> AttentionWindow:
        batch, positions = query.shape
        capacity, filled = positions, torch.ones((), dtype=torch.int64) * positions
        if past is not None:
            capacity = past.cache[0].shape[-2]
            assert positions <= capacity - self.context + self.per_frame, "more positions than the ring takes"
            filled = torch.as_tensor(capacity if call.filled is None else call.filled)
        mask = visible(query, filled, capacity, self.per_frame, self.context)
        runs = torch.tensor([[0, batch // self.copies]]) if call.rows is None else call.rows.runs
        assert runs is not None, "only kernels can do without"
        runs = runs if self.copies == 1 else runs * self.copies
        return MaskedAttention(past, runs, query % capacity, mask[:, None], self._rotation(query), self.shared)

    def _rotation(self, query: Tensor) -> Tensor:
        angle = query.float()[:, None, :, None] * _frequencies(*self.exponents, query.device)
        return torch.polar(torch.ones_like(angle), angle)


class Attention(nn.Module):
    """Multi-head self-attention without biases, beside the identity.

    ``repeat`` consecutive heads of queries share a key and a value.
    """

    def __init__(self, dim: int, heads: int, repeat: int = 1) -> None:
        super().__init__()
        self.head_dim: int = dim // heads
        self.in_proj_weight: nn.Parameter = nn.Parameter(torch.empty(dim + 2 * dim // repeat, dim))
        self.out_proj: Projection = Projection(dim, dim)

    def forward(
        self, x: Tensor, window: AttentionWindow, layer: int, norm: Norm, scale: Tensor | None = None
    ) -> Tensor:
        """Add to ``x`` ``[batch, positions, dim]``, used up, what its normed positions see, times ``scale``."""
        projected = linear(x, self.in_proj_weight, fusion=Fusion(norm=norm))
        seen = window.attend(layer, projected.view(x.shape[0], x.shape[1], -1, self.head_dim))
        return self.out_proj(seen, Fusion(scale=scale, onto=x))


@functools.cache
def _frequencies(exponent: float, count: int, device: torch.device) -> Tensor:
    """Return how far each pair turns from one position to the next, float32 ``[count]``.

    Made once, and so before a graph is captured, which would keep it in memory of its own.
    """
    with torch.inference_mode(mode=False):
        return torch.exp(torch.arange(count, device=device, dtype=torch.float32) * exponent)


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Return ``[batch, heads, positions, head_dim]``, of the query's shape; ``mask`` says what each position sees."""
    grouped = query.shape[1] // keys.shape[1]
    if grouped > 1:
        keys, values = (x.repeat_interleave(grouped, dim=1) for x in (keys, values))
    learning = torch.is_grad_enabled() and query.requires_grad and query.dtype == torch.bfloat16
    if not learning or query.device.type != "cpu":
        return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    # The fused kernel's backward pass is slow in bfloat16 on a CPU; the products by themselves are twice as fast.
    with torch.autocast("cpu", enabled=False):
        unseen = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, float("-inf"))
        scores = query @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5 + unseen
        return torch.softmax(scores, dim=-1) @ values
