"""Products with weights of 8 or 4 bits: a weight is read once, and made wide again only in registers."""

import attrs
import torch
import triton
import triton.language as tl
from torch import Tensor

from duplex.backends.torch.kernels.conversion import wide_int4, wide_int8
from duplex.backends.torch.quantize import GROUP

__all__ = ["MOST_FEW", "product", "product4", "product8"]

MOST_FEW = 2
"""Rows up to which a product is a pass over the weight with sums in registers, not one on tensor cores."""
_WIDEST = 64
_BUSY = 264
"""How many programs keep a large GPU busy: two for each of its 132 multiprocessors."""


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return ``x @ weight.T``, ``[rows, out]``, for at most :data:`MOST_FEW` rows.

    ``x`` is contiguous ``[rows, in]``, ``weight`` ``[out, in]`` of the same dtype, its rows contiguous.
    """
    out = torch.empty((len(x), len(weight)), dtype=x.dtype, device=x.device)
    _few_rows(x, weight, weight, out, scaled=False)
    return out


def product8(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return ``x @ (weight * scale[:, None]).T``, ``[rows, out]`` in the dtype of ``x``.

    ``x`` is contiguous ``[rows, in]`` in bfloat16 or float32, ``weight`` ``[out, in]`` int8 or float8, ``scale``
    float32 ``[out]``. Sums are float32.
    """
    rows, width = x.shape
    out = torch.empty((rows, len(weight)), dtype=x.dtype, device=x.device)
    if rows <= MOST_FEW:
        _few_rows(x, weight, scale, out, scaled=True)
        return out
    block = max(16, min(_WIDEST, triton.next_power_of_2(rows)))
    tiles = many_tiles(len(weight))
    _rows8[(triton.cdiv(len(weight), tiles.outputs), triton.cdiv(rows, block))](
        x,
        weight,
        scale,
        out,
        rows,
        len(weight),
        width,
        weight.stride(0),
        ROWS=block,
        OUT=tiles.outputs,
        IN=tiles.inputs,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return out


def product4(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return ``x @ wide(weight).T``, ``[rows, out]`` in the dtype of ``x``.

    ``weight`` uint8 ``[out, in // 2]`` holds two values of 0 to 15 a byte, for 8 more than the true ones: of columns
    c (low half) and ``c + in // 2`` (high half). ``scale`` bfloat16 ``[out, in // GROUP]``.
    """
    rows, width = x.shape
    out = torch.empty((rows, len(weight)), dtype=x.dtype, device=x.device)
    if rows <= MOST_FEW:
        tiles = few4_tiles(width // 2)
        _few4[(triton.cdiv(len(weight), tiles.outputs),)](
            x,
            weight,
            scale,
            out,
            len(weight),
            width // 2,
            weight.stride(0),
            ROWS=rows,
            OUT=tiles.outputs,
            GROUPS=tiles.inputs // GROUP,
            GROUP=GROUP,
            STAGES=tiles.stages,
            num_warps=tiles.warps,
        )
        return out
    block = max(16, min(_WIDEST, triton.next_power_of_2(rows)))
    grid = (triton.cdiv(len(weight), 32), triton.cdiv(rows, block))
    _rows4[grid](
        x,
        weight,
        scale,
        out,
        rows,
        len(weight),
        width // 2,
        weight.stride(0),
        ROWS=block,
        OUT=32,
        IN=GROUP,
        num_warps=4,
        num_stages=4,
    )
    return out


@attrs.frozen
class Tiles:
    """How a product is cut: outputs and inputs of a program's step, its warps, and steps that are loaded ahead."""

    outputs: int
    inputs: int
    warps: int
    stages: int


def few_tiles(outputs: int, inputs: int, rows: int, size: int) -> Tiles:
    """Return what measured best on an H200 for few rows and weights of ``size`` bytes."""
    lines = {1: 16, 2: 4, 4: 2}[size] // rows
    if outputs < lines * _BUSY:
        lines = max(2, lines // 2)
    return Tiles(max(1, lines), min(512, triton.next_power_of_2(inputs)), 4, 4 if inputs > 512 else 1)  # noqa: PLR2004


def few4_tiles(inputs: int) -> Tiles:
    """Return what measured best on an H200 for few rows and weights of 4 bits."""
    return Tiles(8, min(512, triton.next_power_of_2(inputs)), 4, 1)


def many_tiles(outputs: int) -> Tiles:
    """Return what measured best on an H200 for more rows and weights of 8 bits."""
    return Tiles(64 if outputs >= 64 * _BUSY else 32, 128, 4, 5)


def _few_rows(x: Tensor, weight: Tensor, scale: Tensor, out: Tensor, *, scaled: bool) -> None:
    rows, width = x.shape
    tiles = few_tiles(len(weight), width, rows, weight.element_size())
    _few[(triton.cdiv(len(weight), tiles.outputs),)](
        x,
        weight,
        scale,
        out,
        len(weight),
        width,
        weight.stride(0),
        ROWS=rows,
        OUT=tiles.outputs,
        IN=tiles.inputs,
        STAGES=tiles.stages,
        SCALED=scaled,
        BYTES=weight.dtype == torch.int8,
        num_warps=tiles.warps,
    )


@triton.jit
def _few(
    x,
    weight,
    scale,
    out,
    outs,
    width,
    stride,
    ROWS: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    STAGES: tl.constexpr,
    SCALED: tl.constexpr,
    BYTES: tl.constexpr,
):
    line = tl.program_id(0) * OUT + tl.arange(0, OUT)
    row = tl.arange(0, ROWS)
    column = tl.arange(0, IN)
    total = tl.zeros((ROWS, OUT, IN), tl.float32)
    lines = weight + line[None, :, None].to(tl.int64) * stride
    inside = (line < outs)[None, :, None]
    for start in tl.range(0, width, IN, num_stages=STAGES):
        at = start + column[None, None, :]
        value = tl.load(x + row[:, None, None] * width + at, mask=at < width, other=0).to(tl.float32)
        narrow = tl.load(lines + at, mask=inside & (at < width), other=0.0)
        total += (wide_int8(narrow) if BYTES else narrow.to(tl.float32)) * value
    result = tl.sum(total, axis=2)
    if SCALED:
        result = result * tl.load(scale + line, mask=line < outs, other=0)[None, :]
    target = out + row[:, None] * outs + line[None, :]
    tl.store(target, result.to(out.dtype.element_ty), mask=(line < outs)[None, :])


@triton.jit(do_not_specialize=["rows"])
def _rows8(x, weight, scale, out, rows, outs, width, stride, ROWS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr):
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    line = tl.program_id(0) * OUT + tl.arange(0, OUT)
    column = tl.arange(0, IN)
    total = tl.zeros((ROWS, OUT), tl.float32)
    lines = weight + line[None, :].to(tl.int64) * stride
    for start in range(0, width, IN):
        at = start + column
        there = at < width
        value = tl.load(x + row[:, None] * width + at[None, :], mask=(row < rows)[:, None] & there[None, :], other=0)
        narrow = tl.load(lines + at[:, None], mask=(line < outs)[None, :] & there[:, None], other=0.0)
        total += tl.dot(value, narrow.to(value.dtype), input_precision="ieee")
    result = total * tl.load(scale + line, mask=line < outs, other=0)[None, :]
    target = out + row[:, None] * outs + line[None, :]
    tl.store(target, result.to(out.dtype.element_ty), mask=(row < rows)[:, None] & (line < outs)[None, :])


@triton.jit
def _few4(
    x,
    weight,
    scale,
    out,
    outs,
    half,
    stride,
    ROWS: tl.constexpr,
    OUT: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP: tl.constexpr,
    STAGES: tl.constexpr,
):
    line = tl.program_id(0) * OUT + tl.arange(0, OUT)
    inside = line < outs
    group = tl.arange(0, GROUPS)
    column = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    groups = half // GROUP
    for row in tl.static_range(ROWS):
        total = tl.zeros((OUT, GROUPS), tl.float32)
        for start in tl.range(0, groups, GROUPS, num_stages=STAGES):
            at = start * GROUP + column
            values = x + row * 2 * half + at
            low_value = tl.load(values, mask=at < half, other=0).to(tl.float32)
            high_value = tl.load(values + half, mask=at < half, other=0).to(tl.float32)
            there = inside[:, None, None] & (at < half)[None, :, :]
            byte = tl.load(weight + line[:, None, None].to(tl.int64) * stride + at[None, :, :], mask=there, other=0x88)
            low, high = wide_int4(byte)
            scales = scale + line[:, None] * (2 * groups) + start + group[None, :]
            known = inside[:, None] & (start + group < groups)[None, :]
            low_scale = tl.load(scales, mask=known, other=0).to(tl.float32)
            high_scale = tl.load(scales + groups, mask=known, other=0).to(tl.float32)
            total += tl.sum(low * low_value[None, :, :], axis=2) * low_scale
            total += tl.sum(high * high_value[None, :, :], axis=2) * high_scale
        tl.store(out + row * outs + line, tl.sum(total, axis=1).to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _rows4(x, weight, scale, out, rows, outs, half, stride, ROWS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr):
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    line = tl.program_id(0) * OUT + tl.arange(0, OUT)
    column = tl.arange(0, IN)
    total = tl.zeros((ROWS, OUT), tl.float32)
    lines = weight + line[None, :].to(tl.int64) * stride
    groups = 2 * half // IN
    for start in range(0, half, IN):
        at = start + column
        values = x + row[:, None] * (2 * half) + at[None, :]
        low = tl.load(values, mask=(row < rows)[:, None], other=0)
        high = tl.load(values + half, mask=(row < rows)[:, None], other=0)
        byte = tl.load(lines + at[:, None], mask=(line < outs)[None, :], other=0x88).to(tl.int32)
        scales = scale + line * groups + start // IN
        low_scale = tl.load(scales, mask=line < outs, other=0).to(tl.float32)
        high_scale = tl.load(scales + half // IN, mask=line < outs, other=0).to(tl.float32)
        low_sum = tl.dot(low, ((byte & 15) - 8).to(low.dtype), input_precision="ieee")
        high_sum = tl.dot(high, ((byte >> 4) - 8).to(high.dtype), input_precision="ieee")
        total += low_sum * low_scale[None, :] + high_sum * high_scale[None, :]
    target = out + row[:, None] * outs + line[None, :]
    tl.store(target, total.to(out.dtype.element_ty), mask=(row < rows)[:, None] & (line < outs)[None, :])
