"""Sums of embeddings in one launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["add_embedded", "sum_embedded"]

BLOCK = 1024


def sum_embedded(tables: Tensor, tokens: Tensor, like: Tensor) -> Tensor:
    """Return the sum of each row's embeddings, ``[rows, dim]``, rounded to the dtype after each addition.

    ``tables`` int64 ``[streams]`` holds the addresses of contiguous tables ``[.., dim]`` of the dtype of ``like``,
    which is one of them; ``tokens`` is int64 ``[rows, streams]``. A negative token adds nothing.
    """
    rows, streams = tokens.shape
    width = like.shape[1]
    out = torch.empty((rows, width), dtype=like.dtype, device=like.device)
    _sum_embedded[(rows, triton.cdiv(width, BLOCK))](
        tables, tokens.contiguous(), like, out, streams, width, BLOCK=BLOCK, num_warps=4
    )
    return out


def add_embedded(x: Tensor, table: Tensor, tokens: Tensor) -> Tensor:
    """Return ``x`` ``[rows, dim]`` plus the embeddings of ``tokens`` int64 ``[rows]``; a negative one adds nothing."""
    rows, width = x.shape
    out = torch.empty_like(x)
    grid = (rows, triton.cdiv(width, BLOCK))
    _add_embedded[grid](x, table, tokens, out, width, BLOCK=BLOCK, num_warps=4)
    return out


@triton.jit
def _sum_embedded(tables, tokens, like, out, streams, width, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    total = tl.zeros((BLOCK,), out.dtype.element_ty)
    for stream in range(streams):
        token = tl.load(tokens + row * streams + stream)
        table = tl.load(tables + stream).to(like.dtype)
        there = column < tl.where(token >= 0, width, 0)
        value = tl.load(table + token * width + column, mask=there, other=0)
        total = (total.to(tl.float32) + value.to(tl.float32)).to(out.dtype.element_ty)
    tl.store(out + row * width + column, total, mask=inside)


@triton.jit
def _add_embedded(x, table, tokens, out, width, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    token = tl.load(tokens + row)
    there = column < tl.where(token >= 0, width, 0)
    value = tl.load(table + token * width + column, mask=there, other=0).to(tl.float32)
    total = value + tl.load(x + row * width + column, mask=inside, other=0).to(tl.float32)
    tl.store(out + row * width + column, total.to(out.dtype.element_ty), mask=inside)
