"""Residual vector quantization: a launch for each codebook, which first subtracts what the one before has found."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["nearest"]

PARTS = 64
"""Programs that share a codebook."""


def nearest(x: Tensor, entries: Sequence[Tensor], offsets: Sequence[Tensor]) -> Tensor:
    """Return the codes int64 ``[rows, n]`` of ``x`` ``[rows, dim]``, each of what the codebooks before have left over.

    ``entries`` are ``n`` codebooks float32 ``[bins, dim]``, contiguous, ``offsets`` float32 ``[bins]`` half the squared
    length of each entry. Of entries that are equally near it is the first.
    """
    rows, width = x.shape
    count, bins = len(entries), len(entries[0])
    codes = torch.empty((rows, count), dtype=torch.int64, device=x.device)
    score = torch.empty((2, rows, PARTS), device=x.device)
    index = torch.empty((2, rows, PARTS), dtype=torch.int64, device=x.device)
    left = torch.empty((2, rows, width), device=x.device)
    for number in range(count + 1):
        now, before = number % 2, 1 - number % 2
        last = number == count
        _nearest[(rows, 1 if last else PARTS)](
            left[before] if number > 1 else x,
            left[now],
            entries[number - 1 if number else 0],
            entries[0 if last else number],
            offsets[0 if last else number],
            score[before],
            index[before],
            score[now],
            index[now],
            codes,
            number,
            count,
            bins,
            width,
            FIRST=number == 0,
            LAST=last,
            PARTS=PARTS,
            BINS=triton.next_power_of_2(triton.cdiv(bins, PARTS)),
            WIDTH=triton.next_power_of_2(width),
            num_warps=4,
        )
    return codes


@triton.jit(do_not_specialize=["number"])
def _nearest(
    before,
    left,
    taken,
    entries,
    offsets,
    score_before,
    index_before,
    score,
    index,
    codes,
    number,
    count,
    bins,
    width,
    FIRST: tl.constexpr,
    LAST: tl.constexpr,
    PARTS: tl.constexpr,
    BINS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row, part = tl.program_id(0), tl.program_id(1)
    column = tl.arange(0, WIDTH)
    inside = column < width
    x = tl.load(before + row * width + column, mask=inside, other=0)
    if not FIRST:
        number_of_part = tl.arange(0, PARTS)
        best = tl.argmax(tl.load(score_before + row * PARTS + number_of_part), axis=0)
        chosen = tl.load(index_before + row * PARTS + best)
        x -= tl.load(taken + chosen * width + column, mask=inside, other=0)
        if part == 0:
            tl.store(codes + row * count + number - 1, chosen)
            tl.store(left + row * width + column, x, mask=inside)
    if not LAST:
        line = part * BINS + tl.arange(0, BINS)
        there = (line < bins)[:, None] & inside[None, :]
        entry = tl.load(entries + line[:, None] * width + column[None, :], mask=there, other=0)
        near = tl.sum(entry * x[None, :], axis=1) - tl.load(offsets + line, mask=line < bins, other=float("inf"))
        near = tl.where(near != near, float("-inf"), near)  # noqa: PLR0124 -- what is no number: the first entry
        tl.store(score + row * PARTS + part, tl.max(near, axis=0))
        tl.store(index + row * PARTS + part, part * BINS + tl.argmax(near, axis=0).to(tl.int64))
