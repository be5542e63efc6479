"""Reads and writes of the ring of delayed tokens (:mod:`duplex.backends.shared.delays`), a launch each."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["begin", "complete"]


def begin(
    tokens: Tensor, step: Tensor, slots: Tensor, delays: Tensor, initial: Tensor, user: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Put the user's codes into the ring; return what the step reads, int64 ``[batch, streams]``, and its number.

    ``tokens`` is int64 ``[slots, streams, length]``, ``step`` int64 ``[slots]``, ``slots`` int64 ``[batch]``;
    ``delays`` and ``initial`` are int64 ``[streams]``; ``user`` int64 ``[batch, user_streams]``, any strides, is what
    the last streams hear.
    """
    batch, (_, streams, length) = len(slots), tokens.shape
    columns = torch.empty((batch, streams), dtype=torch.int64, device=tokens.device)
    number = torch.empty(batch, dtype=torch.int64, device=tokens.device)
    heard = 0 if user is None else user.shape[1]
    _begin[(batch,)](
        tokens,
        step,
        slots,
        delays,
        initial,
        columns if user is None else user,
        columns,
        number,
        streams,
        heard,
        0 if user is None else user.stride(0),
        0 if user is None else user.stride(1),
        LENGTH=length,
        STREAMS=triton.next_power_of_2(streams),
        num_warps=1,
    )
    return columns, number


def complete(tokens: Tensor, step: Tensor, slots: Tensor, delays: Tensor, chosen: Tensor, longest: int) -> Tensor:
    """Put what a step has chosen into the ring, and count it; return the time step that it has completed.

    ``chosen`` is contiguous int64 ``[batch, n]``, of the first ``n`` streams; ``longest`` is the longest delay, at
    least 1. Returns int64 ``[batch, streams]``. The rest is as in :func:`begin`.
    """
    batch, (_, streams, length) = len(slots), tokens.shape
    completed = torch.empty((batch, streams), dtype=torch.int64, device=tokens.device)
    _complete[(batch,)](
        tokens,
        step,
        slots,
        delays,
        chosen,
        completed,
        streams,
        chosen.shape[1],
        longest,
        LENGTH=length,
        STREAMS=triton.next_power_of_2(streams),
        num_warps=1,
    )
    return completed


@triton.jit(do_not_specialize=["streams", "heard"])
def _begin(
    tokens,
    step,
    slots,
    delays,
    initial,
    user,
    columns,
    number,
    streams,
    heard,
    row_stride,
    stream_stride,
    LENGTH: tl.constexpr,
    STREAMS: tl.constexpr,
):
    row, stream = tl.program_id(0), tl.arange(0, STREAMS)
    inside = stream < streams
    hears = inside & (stream >= streams - heard)
    slot = tl.load(slots + row)
    now = tl.load(step + slot)
    delay = tl.load(delays + stream, mask=inside, other=0)
    code = tl.load(user + row * row_stride + (stream - (streams - heard)) * stream_stride, mask=hears, other=0)
    ring = tokens + (slot * streams + stream) * LENGTH
    held = tl.load(ring + (now - 1 + LENGTH) % LENGTH, mask=inside, other=0)
    held = tl.where(hears & (delay == 0), code, held)
    early_on = now <= delay
    column = tl.where(early_on, tl.load(initial + stream, mask=inside, other=0), held)
    tl.store(columns + row * streams + stream, column, mask=inside)
    tl.store(number + row, now)
    tl.debug_barrier()  # all that was there has been read
    tl.store(ring + (now - 1 + delay + LENGTH) % LENGTH, code, mask=hears)


@triton.jit(do_not_specialize=["streams", "count", "longest"])
def _complete(
    tokens,
    step,
    slots,
    delays,
    chosen,
    completed,
    streams,
    count,
    longest,
    LENGTH: tl.constexpr,
    STREAMS: tl.constexpr,
):
    row, stream = tl.program_id(0), tl.arange(0, STREAMS)
    inside, speaks = stream < streams, stream < count
    slot = tl.load(slots + row)
    now = tl.load(step + slot)
    delay = tl.load(delays + stream, mask=inside, other=0)
    token = tl.load(chosen + row * count + stream, mask=speaks, other=0)
    ring = tokens + (slot * streams + stream) * LENGTH
    held = tl.load(ring + (now - longest + delay + LENGTH) % LENGTH, mask=inside, other=0)
    held = tl.where(speaks & (delay == longest), token, held)
    tl.store(completed + row * streams + stream, held, mask=inside)
    tl.debug_barrier()  # all that was there has been read
    tl.store(ring + now % LENGTH, token, mask=speaks)
    tl.store(step + slot, now + 1)
