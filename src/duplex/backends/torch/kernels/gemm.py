"""Matrix-matrix products with weights of 8 or 4 bits, on tensor cores: dequantized in registers."""

import attrs
import torch
import triton
import triton.language as tl
from torch import Tensor

from duplex.backends.torch.quantize import GROUP, Quantized

__all__ = ["product"]

_WIDEST = 64
_BUSY = 264
"""How many programs keep a large GPU busy: two for each of its 132 multiprocessors."""


@attrs.frozen
class Tiles:
    """How a product is cut: outputs and inputs of a program's step, its warps, and steps that are loaded ahead."""

    outputs: int
    inputs: int
    warps: int
    stages: int


def product(x: Tensor, weight: Quantized, onto: Tensor | None = None) -> Tensor:
    """Return ``x`` ``[rows, in]``, contiguous, times ``weight`` ``[out, in]``, in the dtype of ``x``; sums are float32.

    It is added to ``onto`` ``[rows, out]``, contiguous, if there is one.
    """
    rows, width = x.shape
    outs = len(weight.data)
    out = torch.empty((rows, outs), dtype=x.dtype, device=x.device)
    block = max(16, min(_WIDEST, triton.next_power_of_2(rows)))
    four = weight.kind == "int4"
    tiles = Tiles(32, GROUP, 4, 4) if four else tiles_of(outs)
    (_gemm_int4 if four else _gemm_int8)[(triton.cdiv(outs, tiles.outputs), triton.cdiv(rows, block))](
        x,
        weight.data,
        weight.scale,
        out if onto is None else onto,
        out,
        rows,
        outs,
        width,
        weight.data.stride(0),
        ROWS=block,
        OUT=tiles.outputs,
        IN=tiles.inputs,
        ONTO=onto is not None,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return out


def tiles_of(outputs: int) -> Tiles:
    """Return what measured best on an H200 for weights of 8 bits."""
    return Tiles(64 if outputs >= 64 * _BUSY else 32, 128, 4, 5)


@triton.jit(do_not_specialize=["rows"])
def _gemm_int8(
    x,
    weight,
    scale,
    onto,
    out,
    rows,
    outs,
    width,
    stride,
    ROWS: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    ONTO: tl.constexpr,
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
    _keep(result, onto, out, row, rows, line, outs, ONTO)


@triton.jit(do_not_specialize=["rows"])
def _gemm_int4(
    x,
    weight,
    scale,
    onto,
    out,
    rows,
    outs,
    width,
    stride,
    ROWS: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    ONTO: tl.constexpr,
):
    half = width // 2
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
    _keep(total, onto, out, row, rows, line, outs, ONTO)


@triton.jit
def _keep(result, onto, out, row, rows, line, outs, ONTO: tl.constexpr):
    place = row[:, None] * outs + line[None, :]
    inside = (row < rows)[:, None] & (line < outs)[None, :]
    if ONTO:
        result = result.to(out.dtype.element_ty).to(tl.float32)
        result += tl.load(onto + place, mask=inside, other=0).to(tl.float32)
    tl.store(out + place, result.to(out.dtype.element_ty), mask=inside)
