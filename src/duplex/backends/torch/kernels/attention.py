"""Attention of one frame over the rings of its slots: only what a slot has filled is read, split over many programs."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from duplex.backends.torch.kernels.conversion import wide_int8

__all__ = ["attend", "attend_few", "store"]

PROGRAMS = 528
"""How many programs keep a large GPU busy: four for each of its 132 multiprocessors."""
MOST_SPLITS = 32
BLOCK = 16
"""Positions that a program reads at a time; with four warps and three loads ahead it measured best on an H200."""
WARPS = 4
STAGES = 3


def store(
    projected: Tensor, rotation: Tensor, cache: Tensor, scale: Tensor | None, slots: Tensor, position: Tensor
) -> Tensor:
    """Rotate queries and keys, put keys and values into the ring, and return the queries.

    A row whose slot the ring does not have (a captured graph's spare one) is put nowhere, and sees nothing.
    ``projected`` is ``[batch, positions, 3, heads, head_dim]``, ``rotation`` float32 ``[batch, positions, head_dim]``
    (cosine and sine in turn), ``cache`` ``[slots, 2, heads, capacity, head_dim]``, ``scale`` float32 ``[slots, 2,
    heads, capacity, 1]`` where the cache is int8, ``slots`` and ``position`` int64 ``[batch]``. Queries come back as
    ``[batch, positions, heads, head_dim]``.
    """
    batch, positions, _, heads, width = projected.shape
    query = torch.empty((batch, positions, heads, width), dtype=projected.dtype, device=projected.device)
    _store[(batch * positions, heads)](
        projected,
        rotation,
        cache,
        cache if scale is None else scale,
        slots,
        position,
        query,
        positions,
        heads,
        cache.shape[-2],
        cache.stride(0),
        len(cache),
        WIDTH=width,
        QUANTIZED=scale is not None,
        num_warps=1,
    )
    return query


def attend(
    query: Tensor,
    cache: Tensor,
    scale: Tensor | None,
    slots: Tensor,
    position: Tensor,
    *,
    context: int,
    per_frame: int,
) -> Tensor:
    """Return what the queries of one frame see, ``[batch, positions, heads * head_dim]``.

    Arguments are those of :func:`store`; ``position`` is where the first query stands. A position sees the ``context``
    positions up to the end of its frame, those after itself left out.
    """
    batch, positions, heads, width = query.shape
    rows = batch * positions
    splits = max(1, min(MOST_SPLITS, PROGRAMS // (rows * heads), triton.cdiv(context, 2 * BLOCK)))
    partial = torch.empty((rows, heads, splits, width), dtype=torch.float32, device=query.device)
    weight = torch.empty((rows, heads, splits, 2), dtype=torch.float32, device=query.device)
    _attend[(rows, heads, splits)](
        query,
        cache,
        cache if scale is None else scale,
        slots,
        position,
        partial,
        weight,
        positions,
        heads,
        cache.shape[-2],
        cache.stride(0),
        len(cache),
        context,
        per_frame,
        splits,
        width**-0.5,
        WIDTH=width,
        BLOCK=BLOCK,
        QUANTIZED=scale is not None,
        STAGES=STAGES,
        num_warps=WARPS,
    )
    out = torch.empty((batch, positions, heads * width), dtype=query.dtype, device=query.device)
    _combine[(rows, heads)](
        partial, weight, out, heads, splits, WIDTH=width, SPLITS=triton.next_power_of_2(splits), num_warps=1
    )
    return out


def attend_few(projected: Tensor, past: Tensor, step: int) -> Tensor:
    """Add a step to a short past and return what its query sees there, ``[batch, heads * head_dim]``.

    ``projected`` is contiguous ``[batch, 3, heads, head_dim]``, ``past`` ``[batch, steps, 2, heads, head_dim]``, of
    which what comes after ``step`` is not read.
    """
    batch, _, heads, width = projected.shape
    out = torch.empty((batch, heads * width), dtype=projected.dtype, device=projected.device)
    steps = past.shape[1]
    _attend_few[(batch, heads)](
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


@triton.jit(do_not_specialize=["positions", "capacity", "held"])
def _store(
    projected,
    rotation,
    cache,
    scale,
    slots,
    position,
    query,
    positions,
    heads,
    capacity,
    slot_stride,
    held,
    WIDTH: tl.constexpr,
    QUANTIZED: tl.constexpr,
):
    row, head = tl.program_id(0), tl.program_id(1)
    at = tl.load(position + row // positions) + row % positions
    slot = tl.load(slots + row // positions)
    pair = tl.arange(0, WIDTH // 2)
    column = tl.arange(0, WIDTH)
    cosine = tl.load(rotation + row * WIDTH + 2 * pair)
    sine = tl.load(rotation + row * WIDTH + 2 * pair + 1)
    base = projected + (row * 3 * heads + head) * WIDTH
    q = _rotated(base, pair, cosine, sine)
    k = _rotated(base + heads * WIDTH, pair, cosine, sine).to(projected.dtype.element_ty).to(tl.float32)
    v = tl.load(base + 2 * heads * WIDTH + column).to(tl.float32)
    tl.store(query + (row * heads + head) * WIDTH + column, q.to(query.dtype.element_ty))
    if slot < held:
        place = head * capacity + at % capacity
        keys = cache + slot * slot_stride + place * WIDTH + column
        values = keys + heads * capacity * WIDTH
        if QUANTIZED:
            k_scale = tl.maximum(tl.max(tl.abs(k), axis=0), 1e-8) / 127
            v_scale = tl.maximum(tl.max(tl.abs(v), axis=0), 1e-8) / 127
            scales = scale + slot * (2 * heads * capacity) + place
            tl.store(scales, k_scale)
            tl.store(scales + heads * capacity, v_scale)
            tl.store(keys, _rounded(k / k_scale))
            tl.store(values, _rounded(v / v_scale))
        else:
            tl.store(keys, k.to(cache.dtype.element_ty))
            tl.store(values, v.to(cache.dtype.element_ty))


@triton.jit
def _rotated(base, pair, cosine, sine):
    real = tl.load(base + 2 * pair).to(tl.float32)
    imaginary = tl.load(base + 2 * pair + 1).to(tl.float32)
    return tl.interleave(real * cosine - imaginary * sine, real * sine + imaginary * cosine)


@triton.jit
def _rounded(x):
    return tl.where(x >= 0, tl.floor(x + 0.5), tl.ceil(x - 0.5)).to(tl.int8)


@triton.jit(do_not_specialize=["positions", "capacity", "context", "splits", "held"])
def _attend(
    query,
    cache,
    scale,
    slots,
    position,
    partial,
    weight,
    positions,
    heads,
    capacity,
    slot_stride,
    held,
    context,
    per_frame,
    splits,
    factor,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    QUANTIZED: tl.constexpr,
    STAGES: tl.constexpr,
):
    row, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    at = tl.load(position + row // positions) + row % positions
    slot = tl.load(slots + row // positions)
    column = tl.arange(0, WIDTH)
    q = tl.load(query + (row * heads + head) * WIDTH + column).to(tl.float32) * factor
    first = tl.maximum((at // per_frame + 1) * per_frame - context, 0)
    seen = tl.where(slot < held, at - first + 1, 0)
    share = tl.cdiv(tl.cdiv(seen, splits), BLOCK) * BLOCK
    begin = split * share
    end = tl.minimum(begin + share, seen)
    keys = cache + slot * slot_stride + head * capacity * WIDTH
    values = keys + heads * capacity * WIDTH
    key_scales = scale + slot * (2 * heads * capacity) + head * capacity
    # Each line of a block has a softmax of its own until the end, so that lines never wait for each other.
    largest = tl.full((BLOCK,), -1e30, tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    mean = tl.zeros((BLOCK, WIDTH), tl.float32)
    for offset in tl.range(begin, end, BLOCK, num_stages=STAGES):
        number = offset + tl.arange(0, BLOCK)
        visible = number < end
        index = ((first + number) % capacity).to(tl.int32)
        where = index[:, None] * WIDTH + column[None, :]
        k = _wide(tl.load(keys + where, mask=visible[:, None], other=0), QUANTIZED)
        v = _wide(tl.load(values + where, mask=visible[:, None], other=0), QUANTIZED)
        score = tl.sum(k * q[None, :], axis=1)
        if QUANTIZED:
            score = score * tl.load(key_scales + index, mask=visible, other=0)
        score = tl.where(visible, score, -1e30)
        new = tl.maximum(largest, score)
        old = tl.exp(largest - new)
        own = tl.where(visible, tl.exp(score - new), 0.0)
        total = total * old + own
        if QUANTIZED:
            own = own * tl.load(key_scales + heads * capacity + index, mask=visible, other=0)
        mean = mean * old[:, None] + own[:, None] * v
        largest = new
    most = tl.max(largest, axis=0)
    factor_of = tl.exp(largest - most)
    part = (row * heads + head) * splits + split
    tl.store(partial + part * WIDTH + column, tl.sum(mean * factor_of[:, None], axis=0))
    tl.store(weight + 2 * part, most)
    tl.store(weight + 2 * part + 1, tl.sum(total * factor_of, axis=0))


@triton.jit
def _wide(x, QUANTIZED: tl.constexpr):
    return wide_int8(x) if QUANTIZED else x.to(tl.float32)


@triton.jit(do_not_specialize=["splits"])
def _combine(partial, weight, out, heads, splits, WIDTH: tl.constexpr, SPLITS: tl.constexpr):
    row, head = tl.program_id(0), tl.program_id(1)
    part = (row * heads + head) * splits + tl.arange(0, SPLITS)
    there = tl.arange(0, SPLITS) < splits
    column = tl.arange(0, WIDTH)
    largest = tl.load(weight + 2 * part, mask=there, other=-1e30)
    total = tl.load(weight + 2 * part + 1, mask=there, other=0)
    share = tl.exp(largest - tl.max(largest, axis=0))
    mean = tl.load(partial + part[:, None] * WIDTH + column[None, :], mask=there[:, None], other=0)
    value = tl.sum(mean * share[:, None], axis=0) / tl.maximum(tl.sum(total * share, axis=0), 1e-30)
    tl.store(out + (row * heads + head) * WIDTH + column, value.to(out.dtype.element_ty))


@triton.jit(do_not_specialize=["step"])
def _attend_few(projected, past, out, heads, steps, step, factor, WIDTH: tl.constexpr, STEPS: tl.constexpr):
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
    score = tl.where(number <= step, tl.sum(keys * query[None, :], axis=1), -1e30)
    share = tl.exp(score - tl.max(score, axis=0))
    result = tl.sum(values * share[:, None], axis=0) / tl.sum(share, axis=0)
    own = past + (row * steps + step) * (2 * heads * WIDTH) + head * WIDTH + column
    tl.store(own, key)
    tl.store(own + heads * WIDTH, value)
    tl.store(out + (row * heads + head) * WIDTH + column, result.to(out.dtype.element_ty))
