"""What a product of few rows does before and after it (:class:`duplex.backends.torch.linear.Fusion`), in registers."""

import triton
import triton.language as tl

__all__ = ["ACTIVATIONS", "LAYER", "ROOT_MEAN_SQUARE", "finish", "layer_norm", "lines_of", "normed"]

ACTIVATIONS: dict[str | None, int] = {None: 0, "gate": 1, "gelu": 2}
GATE, GELU = tl.constexpr(1), tl.constexpr(2)
ROOT_MEAN_SQUARE, LAYER = tl.constexpr(1), tl.constexpr(2)
"""Kinds of norms; 0 is none."""


@triton.jit
def lines_of(outs, LINES: tl.constexpr, ACTIVATION: tl.constexpr):
    """Return which lines of the weight a program multiplies, and whether they exist; gates and values in turn."""
    number = tl.program_id(0) * LINES + tl.arange(0, LINES)
    if ACTIVATION == GATE:
        return number // 2 + number % 2 * outs, number // 2 < outs
    return number, number < outs


@triton.jit
def layer_norm(x, width, epsilon, ROWS: tl.constexpr, WIDTH: tl.constexpr, NORM: tl.constexpr):
    """Return the mean and what a deviation from it is multiplied by, of each row; other norms need neither."""
    if NORM != LAYER:
        return tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
    row, column = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    there = (column < width)[None, :]
    value = tl.load(x + row[:, None] * width + column[None, :], mask=there, other=0).to(tl.float32)
    mean = tl.sum(value, axis=1) / width
    centred = tl.where(there, value - mean[:, None], 0)
    return mean, tl.rsqrt(tl.sum(centred * centred, axis=1) / width + epsilon)


@triton.jit
def normed(value, norm_weight, norm_bias, at, there, mean, factor, NORM: tl.constexpr):
    """Norm what lies at ``at`` of the rows; the factor of a root mean square is known only when all has been seen."""
    if NORM == LAYER:
        value = (value - mean) * factor
    if NORM:
        value *= tl.load(norm_weight + at, mask=there, other=0).to(tl.float32)
    if NORM == LAYER:
        value += tl.load(norm_bias + at, mask=there, other=0).to(tl.float32)
    return value


@triton.jit
def finish(
    result,
    stretch,
    onto,
    out,
    outs,
    ROWS: tl.constexpr,
    LINES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    STRETCHED: tl.constexpr,
    ONTO: tl.constexpr,
):
    """Do what comes after a product ``[ROWS, LINES]``, rounded after each step, and write it."""
    y = _rounded(result, out)
    if ACTIVATION == GATE:
        gate, value = tl.split(tl.reshape(y, (ROWS, LINES // 2, 2)))
        y = _rounded(_rounded(gate / (1 + tl.exp(-gate)), out) * value, out)
        line = tl.program_id(0) * (LINES // 2) + tl.arange(0, LINES // 2)
    else:
        line = tl.program_id(0) * LINES + tl.arange(0, LINES)
    if ACTIVATION == GELU:
        y = _rounded(0.5 * y * (1 + tl.erf(y * 0.7071067811865476)), out)
    inside = line < outs
    if STRETCHED:
        y = _rounded(y * tl.load(stretch + line, mask=inside, other=0).to(tl.float32)[None, :], out)
    place = tl.arange(0, ROWS)[:, None] * outs + line[None, :]
    if ONTO:
        y += tl.load(onto + place, mask=inside[None, :], other=0).to(tl.float32)
    tl.store(out + place, y.to(out.dtype.element_ty), mask=inside[None, :])


@triton.jit
def _rounded(x, out):
    return x.to(out.dtype.element_ty).to(tl.float32)
