"""Norms and gates of the transformers, a launch each, where they are not fused with a product."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["gate", "norm"]


def norm(x: Tensor, alpha: Tensor, epsilon: float) -> Tensor:
    """Return the root mean square norm of contiguous ``x`` ``[..., dim]``, times ``alpha``, ``dim`` values."""
    normed = torch.empty_like(x)
    width = x.shape[-1]
    block = triton.next_power_of_2(width)
    _norm[(x.numel() // width,)](
        x,
        alpha,
        normed,
        width,
        epsilon,
        BLOCK=block,
        num_warps=max(1, min(8, block // 256)),
    )
    return normed


def gate(x: Tensor) -> Tensor:
    """Return ``silu(first half) * second half`` of contiguous ``[..., 2 * hidden]``."""
    hidden = x.shape[-1] // 2
    out = torch.empty((*x.shape[:-1], hidden), dtype=x.dtype, device=x.device)
    block = 512
    _gate[(x.numel() // x.shape[-1], triton.cdiv(hidden, block))](x, out, hidden, BLOCK=block, num_warps=2)
    return out


@triton.jit
def _norm(x, alpha, normed, width, epsilon, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < width
    weight = tl.load(alpha + column, mask=inside, other=0).to(tl.float32)
    value = tl.load(x + row * width + column, mask=inside, other=0).to(tl.float32)
    factor = tl.rsqrt(tl.sum(value * value, axis=0) / width + epsilon)
    tl.store(normed + row * width + column, (value * factor * weight).to(normed.dtype.element_ty), mask=inside)


@triton.jit
def _gate(x, out, hidden, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < hidden
    gated = tl.load(x + row * 2 * hidden + column, mask=inside, other=0).to(tl.float32)
    value = tl.load(x + row * 2 * hidden + hidden + column, mask=inside, other=0).to(tl.float32)
    activated = (gated / (1 + tl.exp(-gated))).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * hidden + column, (activated * value).to(out.dtype.element_ty), mask=inside)
