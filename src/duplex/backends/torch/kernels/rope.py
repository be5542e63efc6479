"""Rotary embedding: the positions of a frame, the rotations that follow from them, and the next position."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["advance"]


def advance(position: Tensor, slots: Tensor, frequencies: Tensor, positions: int, heads: int) -> tuple[Tensor, ...]:
    """Count ``positions`` new ones in ``position`` int64 ``[slots]``, for the slots of a batch, int64 ``[batch]``.

    Returns where each row's first one stands, int64 ``[batch]``, the rotation of each, cosine and sine in turn, float32
    ``[batch, positions, 2 * pairs]``, and zeros, int32 ``[batch * positions * heads]``. ``frequencies`` is float32
    ``[pairs]``.
    """
    batch, pairs = len(slots), len(frequencies)
    begin = torch.empty(batch, dtype=torch.int64, device=slots.device)
    rotation = torch.empty((batch, positions, 2 * pairs), device=slots.device)
    zeros = torch.empty(batch * positions * heads, dtype=torch.int32, device=slots.device)
    _advance[(batch,)](
        position,
        slots,
        frequencies,
        begin,
        rotation,
        zeros,
        heads,
        PAIRS=pairs,
        POSITIONS=positions,
        HEADS=triton.next_power_of_2(heads),
        num_warps=1,
    )
    return begin, rotation, zeros


@triton.jit
def _advance(
    position,
    slots,
    frequencies,
    begin,
    rotation,
    zeros,
    heads,
    PAIRS: tl.constexpr,
    POSITIONS: tl.constexpr,
    HEADS: tl.constexpr,
):
    row = tl.program_id(0)
    slot = tl.load(slots + row)
    at = tl.load(position + slot)
    tl.store(begin + row, at)
    pair, head = tl.arange(0, PAIRS), tl.arange(0, HEADS)
    frequency = tl.load(frequencies + pair)
    for index in tl.static_range(POSITIONS):
        angle = (at + index).to(tl.float32) * frequency
        turned = rotation + (row * POSITIONS + index) * 2 * PAIRS + 2 * pair
        tl.store(turned, tl.cos(angle))
        tl.store(turned + 1, tl.sin(angle))
        tl.store(zeros + (row * POSITIONS + index) * heads + head, tl.zeros((HEADS,), tl.int32), mask=head < heads)
    tl.debug_barrier()  # all threads have read where it stands
    tl.store(position + slot, at + POSITIONS)
