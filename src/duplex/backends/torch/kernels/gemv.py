"""Matrix-vector products with their prologue and epilogue fused: one pass over the weight, sums in registers."""

from typing import Any

import attrs
import torch
import triton
import triton.language as tl
from torch import Tensor

from duplex.backends.torch.fusion import Fusion
from duplex.backends.torch.kernels.dequantize import dequantize_int4, dequantize_int8
from duplex.backends.torch.kernels.fusion import (
    ACTIVATIONS,
    LAYER,
    ROOT_MEAN_SQUARE,
    finish,
    layer_norm,
    lines_of,
    normed,
)
from duplex.backends.torch.quantize import GROUP, Quantized

__all__ = ["MOST", "fits", "product"]

MOST = 2
"""Rows up to which a product is such a pass, and not one on tensor cores."""
_BUSY = 264
"""How many programs keep a large GPU busy: two for each of its 132 multiprocessors."""


@attrs.frozen
class Tiles:
    """How a product is cut: lines of the weight and inputs of a program's step, its warps, steps loaded ahead."""

    lines: int
    inputs: int
    warps: int
    stages: int


def fits(rows: int, weight: Tensor | Quantized) -> bool:
    """Return whether :func:`product` takes so many rows and this weight."""
    return rows <= MOST and (isinstance(weight, Quantized) or weight.stride(1) == 1)


def product(x: Tensor, weight: Tensor | Quantized, bias: Tensor | None, around: Fusion) -> Tensor:
    """Return ``x`` ``[rows, in]``, contiguous, times ``weight`` ``[out, in]``, and what is around it, ``[rows, out]``.

    A gate leaves half of the outputs. Sums are float32; the product is rounded to the dtype of ``x``, and so is each
    step after it.
    """
    rows, width = x.shape
    data = weight.data if isinstance(weight, Quantized) else weight
    four = isinstance(weight, Quantized) and weight.kind == "int4"
    gated = around.activation == "gate"
    outs = len(data) // 2 if gated else len(data)
    out = torch.empty((rows, outs), dtype=x.dtype, device=x.device)
    norm = None if around.norm is None else around.norm.weights
    tiles = tiles_int4(width // 2) if four else tiles_of(len(data), width, rows, data.element_size())
    arguments: dict[str, Any] = {
        "x": x,
        "weight": data,
        "scales": weight.scale if isinstance(weight, Quantized) else data,
        "bias": out if bias is None else bias,
        "norm_weight": out if norm is None else norm.weight,
        "norm_bias": out if norm is None or norm.bias is None else norm.bias,
        "stretch": out if around.scale is None else around.scale,
        "onto": out if around.onto is None else around.onto,
        "out": out,
        "outs": outs,
        "width": width,
        "stride": data.stride(0),
        "epsilon": 0.0 if norm is None else norm.epsilon,
        "ROWS": rows,
        "LINES": max(2, tiles.lines) if gated else tiles.lines,
        "WIDTH": 1 if norm is None or norm.bias is None else triton.next_power_of_2(width),  # read only if it is LAYER
        "STAGES": tiles.stages,
        "NORM": 0 if norm is None else (ROOT_MEAN_SQUARE if norm.bias is None else LAYER).value,
        "ACTIVATION": ACTIVATIONS[around.activation],
        "BIASED": bias is not None,
        "STRETCHED": around.scale is not None,
        "ONTO": around.onto is not None,
        "num_warps": tiles.warps,
    }
    grid = (triton.cdiv(len(data), arguments["LINES"]),)
    if four:
        _gemv_int4[grid](**arguments, GROUPS=tiles.inputs // GROUP, GROUP=GROUP)
    else:
        _gemv[grid](**arguments, IN=tiles.inputs, SCALED=isinstance(weight, Quantized), BYTES=data.dtype == torch.int8)
    return out


def tiles_of(outputs: int, inputs: int, rows: int, size: int) -> Tiles:
    """Return what measured best on an H200 for weights of ``size`` bytes."""
    lines = {1: 16, 2: 8, 4: 2}[size] // rows
    if outputs < lines * _BUSY:
        lines = max(2, lines // 2)
    return Tiles(max(1, lines), min(512, triton.next_power_of_2(inputs)), 4, 4 if inputs > 512 else 1)  # noqa: PLR2004


def tiles_int4(inputs: int) -> Tiles:
    """Return what measured best on an H200 for weights of 4 bits."""
    return Tiles(4, min(1024, triton.next_power_of_2(inputs)), 4, 1)


@triton.jit
def _gemv(
    x,
    weight,
    scales,
    bias,
    norm_weight,
    norm_bias,
    stretch,
    onto,
    out,
    outs,
    width,
    stride,
    epsilon,
    ROWS: tl.constexpr,
    LINES: tl.constexpr,
    IN: tl.constexpr,
    WIDTH: tl.constexpr,
    STAGES: tl.constexpr,
    NORM: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SCALED: tl.constexpr,
    BIASED: tl.constexpr,
    STRETCHED: tl.constexpr,
    ONTO: tl.constexpr,
    BYTES: tl.constexpr,
):
    line, inside = lines_of(outs, LINES, ACTIVATION)
    address = weight + line.to(tl.int64) * stride
    row, column = tl.arange(0, ROWS), tl.arange(0, IN)
    mean, factor = layer_norm(x, width, epsilon, ROWS, WIDTH, NORM)
    total = tl.zeros((ROWS, LINES, IN), tl.float32)
    squares = tl.zeros((ROWS, 1, IN), tl.float32)
    for start in tl.range(0, width, IN, num_stages=STAGES):
        at = start + column[None, None, :]
        value = tl.load(x + row[:, None, None] * width + at, mask=at < width, other=0).to(tl.float32)
        squares += value * value
        value = normed(value, norm_weight, norm_bias, at, at < width, mean[:, None, None], factor[:, None, None], NORM)
        narrow = tl.load(address[None, :, None] + at, mask=inside[None, :, None] & (at < width), other=0.0)
        total += (dequantize_int8(narrow) if BYTES else narrow.to(tl.float32)) * value
    result = tl.sum(total, axis=2)
    if NORM == ROOT_MEAN_SQUARE:
        result *= tl.rsqrt(tl.sum(squares, axis=2) / width + epsilon)
    if SCALED:
        result *= tl.load(scales + line, mask=inside, other=0)[None, :]
    if BIASED:
        result += tl.load(bias + line, mask=inside, other=0).to(tl.float32)[None, :]
    finish(result, stretch, onto, out, outs, ROWS, LINES, ACTIVATION, STRETCHED, ONTO)


@triton.jit
def _gemv_int4(
    x,
    weight,
    scales,
    bias,
    norm_weight,
    norm_bias,
    stretch,
    onto,
    out,
    outs,
    width,
    stride,
    epsilon,
    ROWS: tl.constexpr,
    LINES: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP: tl.constexpr,
    WIDTH: tl.constexpr,
    STAGES: tl.constexpr,
    NORM: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BIASED: tl.constexpr,
    STRETCHED: tl.constexpr,
    ONTO: tl.constexpr,
):
    line, inside = lines_of(outs, LINES, ACTIVATION)
    half = width // 2
    groups = half // GROUP
    group = tl.arange(0, GROUPS)
    column = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    lines = weight + line[:, None, None].to(tl.int64) * stride
    for row in tl.static_range(ROWS):  # one by one: with rows as a dimension, sums would go from thread to thread
        mean, factor = layer_norm(x + row * width, width, epsilon, 1, WIDTH, NORM)
        total = tl.zeros((LINES, GROUPS), tl.float32)
        squares = tl.zeros((GROUPS, GROUP), tl.float32)
        for start in tl.range(0, groups, GROUPS, num_stages=STAGES):
            at = start * GROUP + column
            there = at < half
            low_value = tl.load(x + row * width + at, mask=there, other=0).to(tl.float32)
            high_value = tl.load(x + row * width + half + at, mask=there, other=0).to(tl.float32)
            squares += low_value * low_value + high_value * high_value
            mean2, factor2 = mean[:, None], factor[:, None]
            low_value = normed(low_value, norm_weight, norm_bias, at, there, mean2, factor2, NORM)
            high_value = normed(high_value, norm_weight, norm_bias, half + at, there, mean2, factor2, NORM)
            mask = inside[:, None, None] & there[None, :, :]
            low, high = dequantize_int4(tl.load(lines + at[None, :, :], mask=mask, other=0x88))
            places = scales + line[:, None] * (2 * groups) + start + group[None, :]
            known = inside[:, None] & (start + group < groups)[None, :]
            low_scale = tl.load(places, mask=known, other=0).to(tl.float32)
            high_scale = tl.load(places + groups, mask=known, other=0).to(tl.float32)
            total += tl.sum(low * low_value[None, :, :], axis=2) * low_scale
            total += tl.sum(high * high_value[None, :, :], axis=2) * high_scale
        result = tl.sum(total, axis=1)
        if NORM == ROOT_MEAN_SQUARE:
            result *= tl.rsqrt(tl.sum(tl.sum(squares, axis=1), axis=0) / width + epsilon)
        if BIASED:
            result += tl.load(bias + line, mask=inside, other=0).to(tl.float32)
        first = row * outs
        finish(result[None, :], stretch, onto + first, out + first, outs, 1, LINES, ACTIVATION, STRETCHED, ONTO)
