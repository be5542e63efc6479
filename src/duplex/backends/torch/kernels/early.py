"""Kernels that start while the one before them still runs (programmatic dependent launch, on GPUs from Hopper on).

Each kernel allows the next one to start as soon as there is room, and waits for the one before to end before it reads
what that writes. What does not change from step to step, the weights, may be asked for earlier: so that memory is read
without a pause from one product to the next.
"""

import functools
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

__all__ = ["begin", "fetch", "launching"]

LINE = tl.constexpr(128)
"""Bytes that memory is read in."""


@functools.cache
def launching() -> dict[str, Any]:
    """Return the arguments of a launch that say whether kernels start early."""
    early = torch.cuda.is_available() and not torch.version.hip and torch.cuda.get_device_capability() >= (9, 0)
    return {"EARLY": True, "launch_pdl": True} if early else {"EARLY": False}


@triton.jit
def begin(EARLY: tl.constexpr):
    """Let the next kernel start, and wait for the one before; nothing that a kernel wrote is read before that."""
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def fetch(lines, inside, bytes_of_line, MOST: tl.constexpr):
    """Have the first bytes of ``lines``, addresses ``[n]``, come closer: ``MOST`` times :data:`LINE` of each."""
    offset = tl.arange(0, MOST) * LINE
    address = lines.to(tl.int64)[:, None] + offset[None, :]
    wanted = (inside[:, None] & (offset < bytes_of_line)[None, :]).to(tl.int32)
    tl.inline_asm_elementwise(
        """
        {
            .reg .pred wanted;
            setp.ne.b32 wanted, $2, 0;
            @wanted prefetch.global.L2 [$1];
            mov.u32 $0, 0;
        }
        """,
        "=r,l,r",
        [address, wanted],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
