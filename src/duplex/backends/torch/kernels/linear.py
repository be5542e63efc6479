"""Products with weights of 8 or 4 bits: a weight is read once, and made wide again only in registers."""

# pyright: basic -- a kernel's arguments are Triton's own values

import torch
import triton
import triton.language as tl
from torch import Tensor

from duplex.backends.torch.quantize import GROUP

__all__ = ["product4", "product8"]

_FEW = 1
_WIDEST = 64


def product8(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return ``x @ (weight * scale[:, None]).T``, ``[rows, out]`` in the dtype of ``x``.

    ``x`` is contiguous ``[rows, in]`` in bfloat16 or float32, ``weight`` ``[out, in]`` int8 or float8, ``scale``
    float32 ``[out]``. Sums are float32.
    """
    rows, width = x.shape
    out = torch.empty((rows, len(weight)), dtype=x.dtype, device=x.device)
    if rows == _FEW:
        block_out, block_in = (16, 512) if width >= 2048 else (16, 256)  # noqa: PLR2004 -- the shapes that measured best
        _row8[(triton.cdiv(len(weight), block_out),)](
            x, weight, scale, out, len(weight), width, weight.stride(0), OUT=block_out, IN=block_in, num_warps=4
        )
        return out
    block = max(16, min(_WIDEST, triton.next_power_of_2(rows)))
    grid = (triton.cdiv(len(weight), 32), triton.cdiv(rows, block))
    _rows8[grid](
        x,
        weight,
        scale,
        out,
        rows,
        len(weight),
        width,
        weight.stride(0),
        ROWS=block,
        OUT=32,
        IN=128,
        num_warps=4,
        num_stages=4,
    )
    return out


def product4(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return ``x @ wide(weight).T``, ``[rows, out]`` in the dtype of ``x``.

    ``weight`` uint8 ``[out, in // 2]`` holds two values of 0 to 15 a byte, for 8 more than the true ones: of columns
    c (low half) and ``c + in // 2`` (high half). ``scale`` bfloat16 ``[out, in // GROUP]``.
    """
    rows, width = x.shape
    out = torch.empty((rows, len(weight)), dtype=x.dtype, device=x.device)
    if rows == _FEW:
        _row4[(triton.cdiv(len(weight), 16),)](
            x, weight, scale, out, len(weight), width // 2, weight.stride(0), OUT=16, IN=256, GROUP=GROUP, num_warps=4
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


@triton.jit
def _row8(x, weight, scale, out, outs, width, stride, OUT: tl.constexpr, IN: tl.constexpr):
    line = tl.program_id(0) * OUT + tl.arange(0, OUT)
    inside = line < outs
    column = tl.arange(0, IN)
    total = tl.zeros((OUT, IN), tl.float32)
    lines = weight + line[:, None].to(tl.int64) * stride
    for start in range(0, width, IN):
        at = start + column
        value = tl.load(x + at, mask=at < width, other=0).to(tl.float32)
        wide = tl.load(lines + at[None, :], mask=inside[:, None] & (at < width)[None, :], other=0.0).to(tl.float32)
        total += wide * value[None, :]
    result = tl.sum(total, axis=1) * tl.load(scale + line, mask=inside, other=0)
    tl.store(out + line, result.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _rows8(
    x, weight, scale, out, rows, outs, width, stride, ROWS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr
):
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
def _row4(
    x, weight, scale, out, outs, half, stride, OUT: tl.constexpr, IN: tl.constexpr, GROUP: tl.constexpr
):
    line = tl.program_id(0) * OUT + tl.arange(0, OUT)
    inside = line < outs
    column = tl.arange(0, IN)
    total = tl.zeros((OUT, IN), tl.float32)
    lines = weight + line[:, None].to(tl.int64) * stride
    groups = 2 * half // GROUP
    scales = scale + line[:, None] * groups
    for start in range(0, half, IN):
        at = start + column
        there = inside[:, None] & (at < half)[None, :]
        low = tl.load(x + at, mask=at < half, other=0).to(tl.float32)
        high = tl.load(x + half + at, mask=at < half, other=0).to(tl.float32)
        byte = tl.load(lines + at[None, :], mask=there, other=0x88).to(tl.int32)
        low_scale = tl.load(scales + (at // GROUP)[None, :], mask=there, other=0).to(tl.float32)
        high_scale = tl.load(scales + ((half + at) // GROUP)[None, :], mask=there, other=0).to(tl.float32)
        total += ((byte & 15) - 8).to(tl.float32) * low_scale * low[None, :]
        total += ((byte >> 4) - 8).to(tl.float32) * high_scale * high[None, :]
    tl.store(out + line, tl.sum(total, axis=1).to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _rows4(
    x, weight, scale, out, rows, outs, half, stride, ROWS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr
):
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
