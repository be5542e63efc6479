"""Sampling of a token in one launch: temperature, top-k with all ties kept, Gumbel noise, argmax."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["sample"]


def sample(logits: Tensor, options: Tensor, noise: Tensor | None) -> Tensor:
    """Return the chosen token of each row, int64 ``[batch]``; the first of several that are equally good.

    ``logits`` is contiguous float32 ``[batch, vocabulary]``, ``options`` float32 ``[batch, 2]`` (temperature, top-k),
    ``noise`` float32 ``[batch, vocabulary]``, its rows contiguous, or ``None`` where every row is greedy.
    """
    batch, vocabulary = logits.shape
    out = torch.empty(batch, dtype=torch.int64, device=logits.device)
    block = triton.next_power_of_2(vocabulary)
    _sample[(batch,)](
        logits,
        options,
        logits if noise is None else noise,
        out,
        vocabulary,
        0 if noise is None else noise.stride(0),
        DRAWN=noise is not None,
        BLOCK=block,
        num_warps=max(1, min(32, block // 512)),
    )
    return out


@triton.jit
def _sample(
    logits,
    wishes,
    noise,
    out,
    vocabulary,
    noise_stride,
    DRAWN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < vocabulary
    logit = tl.load(logits + row * vocabulary + column, mask=inside, other=float("-inf"))
    score = logit
    if DRAWN:
        temperature = tl.load(wishes + 2 * row)
        drawn = tl.load(noise + row * noise_stride + column, mask=inside, other=0)
        noisy = logit / tl.maximum(temperature, 1.1754943508222875e-38) + drawn
        score = tl.where(temperature > 0, noisy, logit)
    best = tl.minimum(tl.argmax(score, axis=0), vocabulary - 1)  # where logits are no numbers, it may lie behind them
    if DRAWN:
        # The best of all is the best of the k largest if fewer than k logits are larger than its own. If it is none of
        # them, neither is any whose logit is no larger. That is known after a look or two; to sort would take 32.
        top_k = tl.load(wishes + 2 * row + 1).to(tl.int32)
        top_k = tl.where((top_k > 0) & (temperature > 0), top_k, vocabulary)
        own = tl.load(logits + row * vocabulary + best)
        larger = tl.sum((logit > own).to(tl.int32), axis=0)
        while larger >= top_k:
            score = tl.where(logit > own, score, float("-inf"))
            best = tl.minimum(tl.argmax(score, axis=0), vocabulary - 1)
            own = tl.load(logits + row * vocabulary + best)
            larger = tl.sum((logit > own).to(tl.int32), axis=0)
    tl.store(out + row, best.to(tl.int64))
