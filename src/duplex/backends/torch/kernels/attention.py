"""Decoding attention over the ring caches of a batch, split over many programs; only what is filled is read."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from duplex.backends.torch.kernels.dequantize import dequantize_int8

__all__ = ["attend"]

PROGRAMS = 528
"""How many programs keep a large GPU busy: four for each of its 132 multiprocessors."""
MAX_SPLITS = 32
BLOCK = 16
"""Positions that a program reads at a time; with four warps and three loads ahead it measured best on an H200."""
WARPS = 4
STAGES = 3
_NOTHING = tl.constexpr(-1e30)
"""The score of what is not seen."""


def attend(
    projected: Tensor,
    rotation: Tensor,
    cache: Tensor,
    scale: Tensor | None,
    slots: Tensor,
    position: Tensor,
    arrived: Tensor,
    *,
    context: int,
) -> Tensor:
    """Put a frame's keys and values into the ring, and return what its queries see: ``[batch, positions, dim]``.

    ``projected`` is contiguous ``[batch, positions, heads + 2 * shared, head_dim]``, not yet rotated; ``rotation``
    float32 ``[batch, positions, head_dim]`` (cosine and sine in turn), ``cache``
    ``[slots, 2, shared, capacity, head_dim]``, ``scale`` float32 ``[slots, 2, shared, capacity, 1]`` where the cache is
    int8, ``slots`` and ``position``, where the frame begins, int64 ``[batch]``. ``arrived`` int32
    ``[batch * positions * heads]`` is zero, and is so again afterwards. A position sees the ``context`` positions up to
    the end of its frame, those after itself left out. A row whose slot the ring does not have (a captured graph's
    spare one) is put nowhere, and sees nothing.
    """
    batch, positions, vectors, width = projected.shape
    shared = cache.shape[2]
    heads = vectors - 2 * shared
    rows = batch * positions
    splits = max(1, min(MAX_SPLITS, PROGRAMS // (rows * heads), triton.cdiv(context, 2 * BLOCK)))
    partial = torch.empty((rows, heads, splits, width), dtype=torch.float32, device=projected.device)
    weight = torch.empty((rows, heads, splits, 2), dtype=torch.float32, device=projected.device)
    out = torch.empty((batch, positions, heads * width), dtype=projected.dtype, device=projected.device)
    _attend[(rows, heads, splits)](
        projected,
        rotation,
        cache,
        cache if scale is None else scale,
        slots,
        position,
        partial,
        weight,
        arrived,
        out,
        heads,
        shared,
        cache.shape[-2],
        cache.stride(0),
        len(cache),
        context,
        width**-0.5,
        POSITIONS=positions,
        SPLITS=splits,
        SPLITS_2=triton.next_power_of_2(splits),
        REPEAT=heads // shared,
        WIDTH=width,
        BLOCK=BLOCK,
        QUANTIZED=scale is not None,
        STAGES=STAGES,
        num_warps=WARPS,
    )
    return out


@triton.jit(do_not_specialize=["capacity", "context", "held"])
def _attend(
    projected,
    rotation,
    cache,
    scale,
    slots,
    position,
    partial,
    weight,
    arrived,
    out,
    heads,
    shared,
    capacity,
    slot_stride,
    held,
    context,
    factor,
    POSITIONS: tl.constexpr,
    SPLITS: tl.constexpr,
    SPLITS_2: tl.constexpr,
    REPEAT: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    QUANTIZED: tl.constexpr,
    STAGES: tl.constexpr,
):
    row, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    begin = tl.load(position + row // POSITIONS)
    slot = tl.load(slots + row // POSITIONS)
    here = slot < held
    group = head // REPEAT
    ring = cache + slot * slot_stride + group * capacity * WIDTH
    scales = scale + slot * (2 * shared * capacity) + group * capacity
    mine = projected + (row * (heads + 2 * shared) + head) * WIDTH
    q = _rotated(mine, rotation + row * WIDTH, WIDTH) * factor
    # What lies in the ring: all that is seen but this frame, which no program could be sure to find there.
    first = tl.maximum(begin + POSITIONS - context, 0)
    seen = tl.where(here, begin - first, 0)
    share = tl.cdiv(tl.cdiv(seen, SPLITS), BLOCK) * BLOCK
    start = split * share
    end = tl.minimum(start + share, seen)
    most, total, mean = _look_back(
        q, ring, scales, first, start, end, shared, capacity, WIDTH, BLOCK, QUANTIZED, STAGES
    )
    if split == SPLITS - 1:
        for other in tl.static_range(POSITIONS):
            there = row // POSITIONS * POSITIONS + other
            base = projected + (there * (heads + 2 * shared) + heads + group) * WIDTH
            place = (begin + other) % capacity
            k, v = _remembered(
                base,
                rotation + there * WIDTH,
                ring + place * WIDTH,
                scales + place,
                here & (there == row) & (head % REPEAT == 0),
                shared,
                capacity,
                WIDTH,
                QUANTIZED,
            )
            score = tl.where(here & (there <= row), tl.sum(k * q, axis=0), _NOTHING)
            new = tl.maximum(most, score)
            old, own = tl.exp(most - new), tl.where(score > _NOTHING, tl.exp(score - new), 0.0)
            most, total, mean = new, total * old + own, mean * old + own * v
    column = tl.arange(0, WIDTH)
    target = out + (row * heads + head) * WIDTH + column
    if SPLITS == 1:
        tl.store(target, (mean / tl.maximum(total, 1e-30)).to(out.dtype.element_ty))
    else:
        part = (row * heads + head) * SPLITS
        tl.store(partial + (part + split) * WIDTH + column, mean)
        tl.store(weight + 2 * (part + split), most)
        tl.store(weight + 2 * (part + split) + 1, total)
        tl.debug_barrier()  # all of it is written before this program is counted
        if tl.atomic_add(arrived + row * heads + head, 1, sem="acq_rel") == SPLITS - 1:
            tl.store(arrived + row * heads + head, 0)
            _combine(partial + part * WIDTH, weight + 2 * part, target, SPLITS, SPLITS_2, WIDTH)


@triton.jit
def _look_back(
    q,
    ring,
    scales,
    first,
    start,
    end,
    shared,
    capacity,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    QUANTIZED: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Return the largest score of positions ``start`` to ``end`` after ``first``, the sum of weights, and of values."""
    column = tl.arange(0, WIDTH)
    # Each line of a block has a softmax of its own until the end, so that lines never wait for each other.
    largest = tl.full((BLOCK,), _NOTHING, tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    mean = tl.zeros((BLOCK, WIDTH), tl.float32)
    for offset in tl.range(start, end, BLOCK, num_stages=STAGES):
        number = offset + tl.arange(0, BLOCK)
        visible = number < end
        index = ((first + number) % capacity).to(tl.int32)
        where = ring + index[:, None] * WIDTH + column[None, :]
        k = _wide(tl.load(where, mask=visible[:, None], other=0), QUANTIZED)
        v = _wide(tl.load(where + shared * capacity * WIDTH, mask=visible[:, None], other=0), QUANTIZED)
        score = tl.sum(k * q[None, :], axis=1)
        if QUANTIZED:
            score = score * tl.load(scales + index, mask=visible, other=0)
        score = tl.where(visible, score, _NOTHING)
        new = tl.maximum(largest, score)
        old = tl.exp(largest - new)
        own = tl.where(visible, tl.exp(score - new), 0.0)
        total = total * old + own
        if QUANTIZED:
            own = own * tl.load(scales + shared * capacity + index, mask=visible, other=0)
        mean = mean * old[:, None] + own[:, None] * v
        largest = new
    most = tl.max(largest, axis=0)
    factor = tl.exp(largest - most)
    return most, tl.sum(total * factor, axis=0), tl.sum(mean * factor[:, None], axis=0)


@triton.jit
def _remembered(base, turns, place, scales, own, shared, capacity, WIDTH: tl.constexpr, QUANTIZED: tl.constexpr):
    """Return a new key and value as the ring holds them, where they are written if they are the program's own."""
    column = tl.arange(0, WIDTH)
    k = _rotated(base, turns, WIDTH).to(base.dtype.element_ty).to(tl.float32)
    v = tl.load(base + shared * WIDTH + column).to(tl.float32)
    k_scale, v_scale = 1.0, 1.0
    if QUANTIZED:
        k_scale = tl.maximum(tl.max(tl.abs(k), axis=0), 1e-8) / 127
        v_scale = tl.maximum(tl.max(tl.abs(v), axis=0), 1e-8) / 127
        k, v = _whole(k / k_scale), _whole(v / v_scale)
    if own:
        tl.store(place + column, k.to(place.dtype.element_ty))
        tl.store(place + shared * capacity * WIDTH + column, v.to(place.dtype.element_ty))
        if QUANTIZED:
            tl.store(scales, k_scale)
            tl.store(scales + shared * capacity, v_scale)
    return k * k_scale, v * v_scale


@triton.jit
def _rotated(base, turns, WIDTH: tl.constexpr):
    pair = tl.arange(0, WIDTH // 2)
    cosine, sine = tl.load(turns + 2 * pair), tl.load(turns + 2 * pair + 1)
    real = tl.load(base + 2 * pair).to(tl.float32)
    imaginary = tl.load(base + 2 * pair + 1).to(tl.float32)
    return tl.interleave(real * cosine - imaginary * sine, real * sine + imaginary * cosine)


@triton.jit
def _whole(x):
    return tl.where(x >= 0, tl.floor(x + 0.5), tl.ceil(x - 0.5))


@triton.jit
def _wide(x, QUANTIZED: tl.constexpr):
    return dequantize_int8(x) if QUANTIZED else x.to(tl.float32)


@triton.jit
def _combine(partial, weight, target, SPLITS: tl.constexpr, SPLITS_2: tl.constexpr, WIDTH: tl.constexpr):
    """Write the mean of what the programs of a row and a head have seen, who all have written what they have."""
    part = tl.arange(0, SPLITS_2)
    there = part < SPLITS
    column = tl.arange(0, WIDTH)
    largest = tl.load(weight + 2 * part, mask=there, other=_NOTHING, cache_modifier=".cg")
    total = tl.load(weight + 2 * part + 1, mask=there, other=0, cache_modifier=".cg")
    share = tl.exp(largest - tl.max(largest, axis=0))
    places = partial + part[:, None] * WIDTH + column[None, :]
    mean = tl.load(places, mask=there[:, None], other=0, cache_modifier=".cg")
    value = tl.sum(mean * share[:, None], axis=0) / tl.maximum(tl.sum(total * share, axis=0), 1e-30)
    tl.store(target, value.to(target.dtype.element_ty))
