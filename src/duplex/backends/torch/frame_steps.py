"""How a frame is computed for some of the slots: captured on a GPU, as a program on a CPU, or as it is written."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duplex.backends.torch import torchscript
from duplex.backends.torch.cuda_graphs import FrameGraphs
from duplex.backends.torch.frame import compute_frame
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.onednn import onednn_weights_of
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Rows, SlotState
from duplex.backends.torch.tracing import TracedFrames
from duplex.frame_model import ModelSpec

__all__ = ["FrameSteps"]


class FrameSteps:
    """The steps of one model over the slots of ``state``, in CUDA graphs where it is ``graphed``."""

    def __init__(
        self, mimi: Mimi, language_model: LanguageModel, state: SlotState, spec: ModelSpec, *, graphed: bool
    ) -> None:
        self._state = state
        self._device = language_model.text_linear.weight.device
        self._compute: Callable[..., tuple[Tensor, Tensor]] = functools.partial(
            compute_frame, mimi, language_model, spec
        )
        self.graphs: FrameGraphs | None = self._captured(spec) if graphed else None
        packed = [*onednn_weights_of(mimi), *onednn_weights_of(language_model)]
        self.recorded: TracedFrames | None = (
            TracedFrames(self._compute, state, packed, spec.frame_size)
            if self._device.type == "cpu" and torchscript.AVAILABLE
            else None
        )
        """A step as a program, on a CPU; with ``None`` it runs in Python, where hooks can listen."""

    def prepare(self, sampling: Sampling, slot: int) -> None:
        """Record what this kind of sampling needs, on a slot that nobody steps meanwhile."""
        if self.recorded is not None:
            self.recorded.prepare(sampling, slot)

    def run(
        self, batch: list[int], heard: NDArray[np.float32], valid: NDArray[np.bool_], sampling: Sampling, filled: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Advance the slots of ``batch``, in rising order, by what each has heard, ``[batch, frame_size]``.

        Returns the tokens of all, int64 ``[batch, streams]``, and the audio of the ``valid`` ones, float32 ``[valid,
        frame_size]``; no slot has had more than ``filled`` frames.
        """
        if self.graphs is not None:
            tokens, voice = self.graphs.run(heard, batch, valid.tolist(), sampling)
            return tokens, voice[valid]
        told, spoken = self._advanced(batch, torch.as_tensor(heard).to(self._device), valid, sampling, filled)
        return told.cpu().numpy(), spoken.cpu().numpy()

    def _advanced(
        self, batch: list[int], heard: Tensor, valid: NDArray[np.bool_], sampling: Sampling, filled: int
    ) -> tuple[Tensor, Tensor]:
        rows = Rows.of(batch, self._device)
        if valid.all() and self.recorded is not None:
            return self.recorded.run(heard, rows, filled, sampling)
        if valid.all():
            return self._compute(self._state, heard, rows, rows, sampling, filled)
        complete = np.flatnonzero(valid)
        speaking = Rows.of([batch[row] for row in complete], self._device) if len(complete) else rows
        told = torch.as_tensor(complete).to(self._device)
        return self._compute(self._state, heard, rows, speaking, sampling, filled, told)

    @torch.inference_mode()
    def _captured(self, spec: ModelSpec) -> FrameGraphs:
        graphs = FrameGraphs(
            functools.partial(self._compute, self._state),
            capacity=spec.capacity,
            frame_size=spec.frame_size,
            device=self._device,
        )
        graphs.warm_up(Sampling(drawn=True))  # those for greedy rows alone are captured when a session asks for them
        return graphs
