"""A whole frame on a CPU as one recorded program, which runs without Python.

Recorded once for each :class:`~duplex.backends.torch.sampling.Sampling`, by TorchScript, a step costs a third less for
one session, and other threads have Python's lock meanwhile: a server codes audio and answers callers beside it. Which
slots a step advances, and how far back they look, are its arguments. TorchScript is deprecated; where it is gone, or
fails, the plain path computes the same.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from duplex.backends.torch import torchscript
from duplex.backends.torch.heap import give_back
from duplex.backends.torch.packed import Packed
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Rows, SlotState

__all__ = ["RecordedFrames"]

logger = logging.getLogger(__name__)
Compute = Callable[[SlotState, Tensor, Rows, Rows, Sampling, Tensor], tuple[Tensor, Tensor]]
"""Heard audio float32 ``[batch, frame_size]``, its slots twice, and the frames behind them, to tokens and audio."""
Program = Callable[[list[Tensor], list[Tensor], Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class RecordedFrames:
    """A step's computation, recorded for every kind of sampling that has been asked for."""

    def __init__(self, compute: Compute, state: SlotState, packed: Sequence[Packed], frame_size: int) -> None:
        self._compute = compute
        self._state = state
        self._packed = packed
        self._blocks = [
            *(weight.blocks for weight in packed),
            torch.empty(0),
        ]  # at least one: an empty list has no type
        self._frame_size = frame_size
        self._programs: dict[Sampling, Program | None] = {}

    def prepare(self, sampling: Sampling, slot: int) -> None:
        """Record a step for this kind of sampling, if there is none, on a slot that nobody steps meanwhile."""
        if sampling not in self._programs:
            self._programs[sampling] = self._recorded(sampling, slot)

    def run(self, heard: Tensor, rows: Rows, filled: int, sampling: Sampling) -> tuple[Tensor, Tensor]:
        """Advance ``rows``, all of which speak: int64 ``[batch, streams]`` and float32 ``[batch, frame_size]``."""
        self.prepare(sampling, int(rows.indices[0]))
        program = self._programs[sampling]
        if program is None or rows.runs is None:
            return self._compute(self._state, heard, rows, rows, sampling, torch.tensor(filled))
        with torchscript.unoptimized():
            tensors = [*self._state.tensors.values()]
            return program(tensors, self._blocks, heard, rows.indices, rows.runs, torch.tensor(filled))

    def _recorded(self, sampling: Sampling, slot: int) -> Program | None:
        """Record a step by running it on a slot, whose state is then put back."""
        names = [*self._state.tensors]

        def step(
            tensors: list[Tensor], blocks: list[Tensor], heard: Tensor, indices: Tensor, runs: Tensor, filled: Tensor
        ) -> tuple[Tensor, Tensor]:
            # Arguments, as what is done to a constant does not last, and no packed weight can be one.
            self._take(blocks)
            state, rows = SlotState(dict(zip(names, tensors, strict=True))), Rows(indices, runs)
            return self._compute(state, heard, rows, rows, sampling, filled)

        held = self._state.rows(slot, slot + 1)
        before = {name: tensor.clone() for name, tensor in held.tensors.items()}
        tensors = [*self._state.tensors.values()]
        given = (
            tensors,
            self._blocks,
            torch.zeros(1, self._frame_size),
            torch.tensor([slot]),
            torch.tensor([[slot, slot + 1]]),
        )
        try:
            return torchscript.record(step, (*given, torch.tensor(1)))
        except Exception as error:  # noqa: BLE001 -- whatever it is, the plain path is there
            logger.info("a step could not be recorded, and runs in Python: %s", error)
            return None
        finally:
            self._take(self._blocks)
            for name, tensor in held.tensors.items():
                tensor.copy_(before[name])
            before.clear()
            give_back()

    def _take(self, blocks: Sequence[Tensor]) -> None:
        for weight, block in zip(self._packed, blocks, strict=False):
            weight.blocks = block
