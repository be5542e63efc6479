"""The sampling noise (:func:`duplex.backends.shared.noise.gumbel`) of all streams of a step in one launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from duplex.backends.shared.noise import MULTIPLIERS, ROUNDS

__all__ = ["gumbel"]

BLOCK = 128


def gumbel(keys: Tensor, step: Tensor, streams: Tensor, blocks: Tensor) -> Tensor:
    """Return the noise of a step, float32 ``[batch, 4 * n]``.

    ``keys`` int64 ``[batch, rounds, 2]`` holds each row's round keys, ``step`` int64 ``[batch]``; ``streams`` and
    ``blocks`` int64 ``[n]`` are the second and the third word of each counter.
    """
    count = len(streams)
    out = torch.empty((len(step), count, 4), dtype=torch.float32, device=step.device)
    _gumbel[(len(step), triton.cdiv(count, BLOCK))](
        keys.contiguous(),
        step,
        streams,
        blocks,
        out,
        count,
        FIRST=MULTIPLIERS[0],
        SECOND=MULTIPLIERS[1],
        ROUNDS=ROUNDS,
        BLOCK=BLOCK,
        num_warps=1,
    )
    return out.flatten(1)


@triton.jit
def _gumbel(
    keys,
    step,
    streams,
    blocks,
    out,
    count,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    ROUNDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    c0 = tl.zeros((BLOCK,), tl.uint64) + tl.load(step + row).to(tl.uint64)
    c1 = tl.load(streams + index, mask=inside, other=0).to(tl.uint64)
    c2 = tl.load(blocks + index, mask=inside, other=0).to(tl.uint64)
    c3 = tl.zeros((BLOCK,), tl.uint64)
    low = tl.full((), 0xFFFFFFFF, tl.uint64)
    for turn in tl.static_range(ROUNDS):
        k0 = tl.load(keys + (row * ROUNDS + turn) * 2).to(tl.uint64)
        k1 = tl.load(keys + (row * ROUNDS + turn) * 2 + 1).to(tl.uint64)
        first = c0 * tl.full((), FIRST, tl.uint64)
        second = c2 * tl.full((), SECOND, tl.uint64)
        c0 = (second >> 32) ^ c1 ^ k0
        c2 = (first >> 32) ^ c3 ^ k1
        c1 = second & low
        c3 = first & low
    base = out + (row * count + index) * 4
    tl.store(base, _noise_of(c0), mask=inside)
    tl.store(base + 1, _noise_of(c1), mask=inside)
    tl.store(base + 2, _noise_of(c2), mask=inside)
    tl.store(base + 3, _noise_of(c3), mask=inside)


@triton.jit
def _noise_of(word):
    uniform = ((word >> 8).to(tl.float64) + 0.5) / 16777216.0
    return (-tl.log(-tl.log(uniform))).to(tl.float32)
