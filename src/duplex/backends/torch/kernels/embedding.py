"""Sums of embeddings in one launch."""

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["add_embedded", "sum_embedded"]

BLOCK = 1024


def sum_embedded(tables: Sequence[Tensor], tokens: Tensor) -> Tensor:
    """Return the sum of each row's embeddings, ``[rows, dim]``, rounded to the dtype after each addition.

    ``tables`` are contiguous, ``[.., dim]``, of one dtype; ``tokens`` is int64 ``[rows, len(tables)]``. A negative
    token adds nothing.
    """
    rows, width, like = len(tokens), tables[0].shape[1], tables[0]
    out = torch.empty((rows, width), dtype=like.dtype, device=like.device)
    addresses = _on_device(tuple(table.data_ptr() for table in tables), like.device)
    _sum_embedded[(rows, triton.cdiv(width, BLOCK))](
        addresses, tokens.contiguous(), like, out, len(tables), width, BLOCK=BLOCK, num_warps=4
    )
    return out


@functools.cache
def _on_device(addresses: tuple[int, ...], device: torch.device) -> Tensor:
    """Return addresses as int64, kept for ever: a captured graph reads them."""
    return torch.tensor(addresses, device=device)


def add_embedded(x: Tensor, table: Tensor, tokens: Tensor) -> Tensor:
    """Return ``x`` ``[rows, dim]`` plus the embeddings of ``tokens`` int64 ``[rows]``; a negative one adds nothing."""
    rows, width = x.shape
    out = torch.empty_like(x)
    _add_embedded[(rows, triton.cdiv(width, BLOCK))](x, table, tokens, out, width, BLOCK=BLOCK, num_warps=4)
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
