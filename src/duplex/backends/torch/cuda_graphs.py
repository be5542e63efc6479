"""CUDA graphs of a whole frame, one for each size of batch: launching a step costs one call.

A step has hundreds of launches, which a host cannot issue as fast as the device runs them. A graph is captured for
each bucket (1, 2, 4, ... slots, up to the capacity), once for rows that all are greedy and once for others, when it is
first needed or by :meth:`FrameGraphs.warm_up`. Which slots a replay advances is read on the device, as are their
options: whatever callers ask for makes no third, but that texts said with fewer codebooks have theirs for 1, 2, 4, ...
of them, and steps with adapters among their rows have theirs. Rows of the bucket that nobody needs advance a spare slot
behind the others.
"""

from collections.abc import Callable, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duplex.backends.torch.sampling import Kind, Sampling
from duplex.backends.torch.state import Rows

__all__ = ["Compute", "FrameGraphs", "buckets"]

Compute = Callable[[Tensor, Rows, Rows, Sampling], tuple[Tensor, Tensor]]
"""Heard audio float32 ``[batch, frame_size]``, its slots, and the slots to speak in, to tokens and audio."""
WARM_UPS = 2


def buckets(capacity: int) -> list[int]:
    """Return the sizes of batch that graphs are captured for: powers of two, and the capacity."""
    return sorted({1 << power for power in range(capacity.bit_length())} | {capacity})


@attrs.frozen(eq=False)
class _Captured:
    graph: torch.cuda.CUDAGraph
    tokens: Tensor
    voice: Tensor
    host_tokens: Tensor
    host_voice: Tensor

    @classmethod
    def of(cls, graph: torch.cuda.CUDAGraph, tokens: Tensor, voice: Tensor) -> "_Captured":
        pinned = [torch.empty(found.shape, dtype=found.dtype, pin_memory=True) for found in (tokens, voice)]
        return cls(graph, tokens, voice, *pinned)

    def download(self) -> None:
        self.host_tokens.copy_(self.tokens, non_blocking=True)
        self.host_voice.copy_(self.voice, non_blocking=True)


@attrs.frozen(eq=False)
class _Inputs:
    """What a bucket's graphs read, on the device, and where the host writes it."""

    heard: Tensor
    slots: Tensor
    """int64 ``[2, batch]``: the slots that hear, and those that speak."""
    host_heard: Tensor
    host_slots: Tensor

    @classmethod
    def of(cls, size: int, frame_size: int, spare: int, device: torch.device) -> "_Inputs":
        host_heard = torch.zeros((size, frame_size), pin_memory=True)
        host_slots = torch.full((2, size), spare, pin_memory=True)
        return cls(host_heard.to(device), host_slots.to(device), host_heard, host_slots)

    def upload(self) -> None:
        self.heard.copy_(self.host_heard, non_blocking=True)
        self.slots.copy_(self.host_slots, non_blocking=True)


class FrameGraphs:
    """A step's computation, captured."""

    def __init__(self, compute: Compute, *, capacity: int, frame_size: int, device: torch.device) -> None:
        self._compute = compute
        self._capacity = capacity
        """Also the number of the spare slot."""
        self._buckets = buckets(capacity)
        self._inputs: dict[int, _Inputs] = {}
        self._captured: dict[tuple[int, Kind], _Captured] = {}
        self._frame_size = frame_size
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, sampling: Sampling) -> None:
        """Capture the graphs of every bucket, the largest first: the others then find memory that it no longer uses."""
        for size in reversed(self._buckets):
            self._graph(size, sampling)

    def run(
        self, pcm: NDArray[np.float32], slots: Sequence[int], speaking: Sequence[bool], sampling: Sampling
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Advance ``slots`` by one frame each, ``pcm`` float32 ``[len(slots), frame_size]``.

        Returns int64 ``[len(slots), streams]`` and float32 ``[len(slots), frame_size]``; a row's audio means something
        where it is ``speaking``.
        """
        count = len(slots)
        size = next(bucket for bucket in self._buckets if bucket >= count)
        captured, inputs = self._graph(size, sampling), self._inputs[size]
        # By numpy: torch would share out a copy of this size, and wait for threads that others keep waiting.
        inputs.host_heard.numpy()[:count] = pcm
        told = inputs.host_slots.numpy()
        told[:] = self._capacity
        told[0, :count] = slots
        told[1, :count] = np.where(speaking, slots, self._capacity)
        inputs.upload()
        captured.graph.replay()
        captured.download()
        torch.cuda.current_stream(self._device).synchronize()  # the only time that the host waits
        return captured.host_tokens[:count].numpy().copy(), captured.host_voice[:count].numpy().copy()

    def _graph(self, size: int, sampling: Sampling) -> _Captured:
        kind = size, sampling.kind
        if kind not in self._captured:
            self._captured[kind] = self._capture(size, sampling)
        return self._captured[kind]

    def _capture(self, size: int, sampling: Sampling) -> _Captured:
        """Capture one graph. What it is tried out on is the spare slot alone."""
        if size not in self._inputs:
            self._inputs[size] = _Inputs.of(size, self._frame_size, self._capacity, self._device)
        inputs = self._inputs[size]
        inputs.host_slots.fill_(self._capacity)
        inputs.upload()
        hearing, speaking = Rows(inputs.slots[0]), Rows(inputs.slots[1])
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._compute(inputs.heard, hearing, speaking, sampling)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            tokens, voice = self._compute(inputs.heard, hearing, speaking, sampling)
        return _Captured.of(graph, tokens, voice)
