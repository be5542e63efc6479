"""Choosing a token in one launch: temperature, top-k with all ties kept, noise, and the best that is left."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["choose"]


def choose(logits: Tensor, options: Tensor, noise: Tensor | None, *, limited: bool) -> Tensor:
    """Return the chosen token of each row, int64 ``[batch]``; the first of several that are equally good.

    ``logits`` is contiguous float32 ``[batch, vocabulary]``, ``options`` float32 ``[batch, 2]`` (temperature, top-k),
    ``noise`` float32 ``[batch, vocabulary]``, its rows contiguous, or ``None`` where every row is greedy. ``limited``
    says whether any row has a top-k.
    """
    batch, vocabulary = logits.shape
    out = torch.empty(batch, dtype=torch.int64, device=logits.device)
    block = triton.next_power_of_2(vocabulary)
    _choose[(batch,)](
        logits,
        options,
        logits if noise is None else noise,
        out,
        vocabulary,
        0 if noise is None else noise.stride(0),
        DRAWN=noise is not None,
        LIMITED=limited,
        BLOCK=block,
        num_warps=max(1, min(32, block // 512)),
    )
    return out


@triton.jit
def _choose(
    logits,
    wishes,
    noise,
    out,
    vocabulary,
    noise_stride,
    DRAWN: tl.constexpr,
    LIMITED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < vocabulary
    score = tl.load(logits + row * vocabulary + column, mask=inside, other=float("-inf"))
    if DRAWN:
        temperature = tl.load(wishes + 2 * row)
        kept = inside
        if LIMITED:
            top_k = tl.load(wishes + 2 * row + 1).to(tl.int64)
            bits = score.to(tl.int32, bitcast=True)
            ordered = tl.where(bits < 0, ~bits, bits ^ -(2**31)).to(tl.uint32, bitcast=True)
            wanted = tl.minimum(top_k, vocabulary)
            threshold = tl.zeros((), tl.uint32)
            bit = tl.full((), 2**31, tl.uint32)
            for _ in range(32):  # the largest number that so many logits reach, from its highest bit down
                candidate = threshold | bit
                bit = bit >> 1
                reached = tl.sum((inside & (ordered >= candidate)).to(tl.int32), axis=0)
                threshold = tl.where(reached >= wanted, candidate, threshold)
            kept = inside & ((ordered >= threshold) | (top_k <= 0))
            signed = ordered.to(tl.int32, bitcast=True)  # back again: one of the two is enough to hold meanwhile
            score = tl.where(signed < 0, signed ^ -(2**31), ~signed).to(tl.float32, bitcast=True)
        drawn = tl.load(noise + row * noise_stride + column, mask=inside, other=0)
        noisy = score / tl.maximum(temperature, 1.1754943508222875e-38) + drawn
        score = tl.where(temperature > 0, tl.where(kept, noisy, float("-inf")), score)
    tl.store(out + row, tl.argmax(score, axis=0).to(tl.int64))
