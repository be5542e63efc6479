"""Attention of the depth transformer: one query over the keys and values of the codebooks before."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["attend_depth"]


def attend_depth(projected: Tensor, past: Tensor, step: int) -> Tensor:
    """Add a step to a short past and return what its query sees there, ``[batch, heads * head_dim]``.

    ``projected`` is contiguous ``[batch, 3, heads, head_dim]``, ``past`` ``[batch, steps, 2, heads, head_dim]``, of
    which what comes after ``step`` is not read.
    """
    batch, _, heads, width = projected.shape
    out = torch.empty((batch, heads * width), dtype=projected.dtype, device=projected.device)
    steps = past.shape[1]
    _attend_depth[(batch, heads)](
        projected,
        past,
        out,
        heads,
        steps,
        step,
        width**-0.5,
        WIDTH=width,
        STEPS=triton.next_power_of_2(steps),
        num_warps=1,
    )
    return out


@triton.jit(do_not_specialize=["step"])
def _attend_depth(projected, past, out, heads, steps, step, factor, WIDTH: tl.constexpr, STEPS: tl.constexpr):
    row, head = tl.program_id(0), tl.program_id(1)
    column = tl.arange(0, WIDTH)
    number = tl.arange(0, STEPS)
    base = projected + (row * 3 * heads + head) * WIDTH + column
    query = tl.load(base).to(tl.float32) * factor
    key = tl.load(base + heads * WIDTH)
    value = tl.load(base + 2 * heads * WIDTH)
    rows = past + (row * steps + number[:, None]) * (2 * heads * WIDTH) + head * WIDTH + column[None, :]
    before = (number < step)[:, None]
    keys = tl.where(before, tl.load(rows, mask=before, other=0).to(tl.float32), key.to(tl.float32)[None, :])
    values = tl.load(rows + heads * WIDTH, mask=before, other=0).to(tl.float32)
    values = tl.where(before, values, value.to(tl.float32)[None, :])
    score = tl.where(number <= step, tl.sum(keys * query[None, :], axis=1), float("-inf"))
    share = tl.exp(score - tl.max(score, axis=0))
    result = tl.sum(values * share[:, None], axis=0) / tl.sum(share, axis=0)
    own = past + (row * steps + step) * (2 * heads * WIDTH) + head * WIDTH + column
    tl.store(own, key)
    tl.store(own + heads * WIDTH, value)
    tl.store(out + (row * heads + head) * WIDTH + column, result.to(out.dtype.element_ty))
