"""im2col of a causal convolution over a stream: the window of every output, past and present, in one launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["im2col"]

BLOCK = 1024


def im2col(
    x: Tensor, previous: Tensor, slots: Tensor, *, taps: int, stride: int, dilation: int, activated: bool
) -> Tensor:
    """Return ``[batch, n, taps * channels]`` of ``x`` ``[batch, n * stride, channels]``, contiguous, and remember.

    ``previous`` ``[slots, past, channels]`` holds the positions before, of the slots that the batch is, int64
    ``[batch]``; the last ones of ``x`` take their place. With ``activated``, ``x`` goes through an ELU first, and is
    remembered so. Where ``stride`` is not 1, ``dilation`` is, and ``taps`` is a multiple of it.
    """
    batch, positions, channels = x.shape
    past = previous.shape[1]
    count = positions // stride
    edge = min(count, triton.cdiv(past, stride))  # outputs that see what is remembered: one program reads all of it
    width = taps * channels
    edge_size = triton.next_power_of_2(max(1, edge * width))
    out = torch.empty((batch, count, width), dtype=x.dtype, device=x.device)
    _im2col[(batch, 1 + triton.cdiv((count - edge) * width, BLOCK))](
        x,
        previous,
        slots,
        out,
        positions,
        count,
        edge,
        past,
        CHANNELS=channels,
        GROUP=stride * channels,
        APART=dilation * stride * channels,
        WIDTH=width,
        EDGE=edge_size,
        PAST=triton.next_power_of_2(past * channels),
        BLOCK=BLOCK,
        ACTIVATED=activated,
        num_warps=max(4, min(16, edge_size // 512)),
    )
    return out


@triton.jit
def _im2col(
    x,
    previous,
    slots,
    out,
    positions,
    count,
    edge,
    past,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    APART: tl.constexpr,
    WIDTH: tl.constexpr,
    EDGE: tl.constexpr,
    PAST: tl.constexpr,
    BLOCK: tl.constexpr,
    ACTIVATED: tl.constexpr,
):
    row, part = tl.program_id(0), tl.program_id(1)
    x += row * positions * CHANNELS
    out += row * count * WIDTH
    if part == 0:
        held = previous + tl.load(slots + row) * past * CHANNELS
        number = tl.arange(0, EDGE)
        inside = number < edge * WIDTH
        edges = _joined(x, held, _place(number, GROUP, APART, WIDTH), past * CHANNELS, inside, ACTIVATED)
        kept = tl.arange(0, PAST)
        there = kept < past * CHANNELS
        latest = _joined(x, held, kept + positions * CHANNELS, past * CHANNELS, there, ACTIVATED)
        tl.store(out + number, edges, mask=inside)
        tl.debug_barrier()  # all that was remembered has been read
        tl.store(held + kept, latest, mask=there)
    else:
        later = edge * WIDTH + (part - 1) * BLOCK + tl.arange(0, BLOCK)
        wanted = later < count * WIDTH
        value = tl.load(x + _place(later, GROUP, APART, WIDTH) - past * CHANNELS, mask=wanted, other=0)
        tl.store(out + later, _elu(value) if ACTIVATED else value, mask=wanted)


@triton.jit
def _place(number, GROUP: tl.constexpr, APART: tl.constexpr, WIDTH: tl.constexpr):
    """Return where in past and present together a number of all windows lies."""
    inner = number % WIDTH
    return number // WIDTH * GROUP + inner // GROUP * APART + inner % GROUP


@triton.jit
def _joined(x, held, place, past, inside, ACTIVATED: tl.constexpr):
    """Return what lies there: remembered numbers as they are, new ones through the activation."""
    before = tl.load(held + place, mask=inside & (place < past), other=0)
    value = tl.load(x + place - past, mask=inside & (place >= past), other=0)
    return tl.where(place < past, before, _elu(value) if ACTIVATED else value)


@triton.jit
def _elu(x):
    return tl.where(x > 0, x, tl.exp(x) - 1)
