"""Computations on a CPU as traced programs, which run without Python: a whole frame, and the codec's halves of one.

Traced by TorchScript, a frame costs a third less for one session, and other threads have Python's lock meanwhile: a
server codes audio and answers callers beside it. TorchScript is deprecated; where it is gone, or fails, the plain path
computes the same.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from duplex.backends.torch import torchscript
from duplex.backends.torch.allocator import trim
from duplex.backends.torch.onednn import OneDnnInt8, OneDnnWeight
from duplex.backends.torch.sampling import Kind, Sampling
from duplex.backends.torch.state import Rows, SlotState

__all__ = ["Traced", "TracedFrames"]

logger: logging.Logger = logging.getLogger(__name__)
_ONE_AT_A_TIME = threading.Lock()
"""Held while something is traced: its packed weights are then others for as long."""


class Traced:
    """A computation ``compute(state, *inputs)`` as a program, which takes any state of the same streams."""

    def __init__(self, compute: Callable[..., Any], packed: Sequence[OneDnnWeight | OneDnnInt8]) -> None:
        self.compute = compute
        self._packed = packed
        blocks = [weight.blocks for weight in packed]
        self._blocks = [*blocks, torch.empty(0)]  # at least one: an empty list has no type
        self._tried = False
        self.program: Callable[..., Any] | None = None
        """What has been traced, if anything could be."""

    def trace(self, state: SlotState, slot: int, *inputs: Tensor) -> None:
        """Record it, the first time, by running it with ``inputs`` for one slot of a state that nobody steps meanwhile.

        The slot is then put back.
        """
        if self._tried:
            return
        with _ONE_AT_A_TIME:
            if torchscript.AVAILABLE and not self._tried:
                self._trace(state, state.rows(slot, slot + 1), inputs)
            self._tried = True

    def __call__(self, state: SlotState, *inputs: Tensor) -> Any:
        """Return what the computation returns, and do to the state what it does."""
        if self.program is None:
            return self.compute(state, *inputs)
        with torchscript.unoptimized():
            return self.program([*state.tensors.values()], self._blocks, *inputs)

    def _trace(self, state: SlotState, held: SlotState, inputs: tuple[Tensor, ...]) -> None:
        names = [*state.tensors]

        def run(tensors: list[Tensor], blocks: list[Tensor], *inputs: Tensor) -> Any:
            # Arguments, as what is done to a constant does not last, and no packed weight can be one.
            self._take(blocks)
            return self.compute(SlotState(dict(zip(names, tensors, strict=True))), *inputs)

        before = {name: tensor.clone() for name, tensor in held.tensors.items()}
        try:
            self.program = torchscript.trace(run, ([*state.tensors.values()], self._blocks, *inputs))
        except Exception as error:  # noqa: BLE001 -- whatever it is, the plain path is there
            logger.info("a step could not be traced, and runs in Python: %s", error)
        finally:
            self._take(self._blocks)
            for name, tensor in held.tensors.items():
                tensor.copy_(before[name])
            before.clear()
            trim()

    def _take(self, blocks: Sequence[Tensor]) -> None:
        for weight, block in zip(self._packed, blocks, strict=False):
            weight.blocks = block


Compute = Callable[[SlotState, Tensor, Rows, Rows, Sampling, Tensor], tuple[Tensor, Tensor]]
"""Heard audio float32 ``[batch, frame_size]``, its slots twice, and the frames behind them, to tokens and audio."""


class TracedFrames:
    """A step's computation, traced for rows that all are greedy, and for others, when such are first asked for.

    Which slots a step advances, how far back they look and how deep their top-k is are its arguments: whatever callers
    ask for makes no third program, but that texts said with fewer codebooks have theirs for 1, 2, 4, ... of them, and
    steps with adapters, or with a bonus for padding, among their rows have theirs.
    """

    def __init__(
        self, compute: Compute, state: SlotState, packed: Sequence[OneDnnWeight | OneDnnInt8], frame_size: int
    ) -> None:
        self._compute = compute
        self._state = state
        self._packed = packed
        self._frame_size = frame_size
        self._programs: dict[Kind, Traced] = {}

    def prepare(self, sampling: Sampling, slot: int) -> None:
        """Record a step for this kind of sampling, if there is none, on a slot that nobody steps meanwhile."""
        if sampling.kind in self._programs:
            return
        drawn, codebooks, adapted = sampling.kind

        def step(
            state: SlotState, heard: Tensor, indices: Tensor, runs: Tensor, filled: Tensor, depths: Tensor
        ) -> tuple[Tensor, Tensor]:
            rows = Rows(indices, runs)
            own = Sampling(drawn, depths[0], depths[1], codebooks, adapted)
            return self._compute(state, heard, rows, rows, own, filled)

        traced = Traced(step, self._packed)
        slots = torch.tensor([slot]), torch.tensor([[slot, slot + 1]])
        rest = torch.tensor(1), torch.ones(2, dtype=torch.int64)
        traced.trace(self._state, slot, torch.zeros(1, self._frame_size), *slots, *rest)
        self._programs[sampling.kind] = traced

    def run(self, heard: Tensor, rows: Rows, filled: int, sampling: Sampling) -> tuple[Tensor, Tensor]:
        """Advance ``rows``, all of which speak: int64 ``[batch, streams]`` and float32 ``[batch, frame_size]``."""
        assert rows.runs is not None, "the host knows them on a CPU"
        self.prepare(sampling, int(rows.indices[0]))
        rest = torch.tensor(filled), torch.tensor([sampling.text_top_k, sampling.audio_top_k])
        return self._programs[sampling.kind](self._state, heard, rows.indices, rows.runs, *rest)
