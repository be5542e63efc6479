"""How much memory a model takes, told from its configuration alone: no weight is read for it.

Weights are counted as they are held, each with its scales where it is rounded; a session is the sum of its declared
state. What a step needs besides is small, and given as measured.
"""

import os

import attrs
import torch

from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.prefill import LONGEST_RUN
from duplex.backends.torch.quantize import GROUP, Kind, quantizable
from duplex.backends.torch.state import Declared, bind
from duplex.config import LanguageModelConfig, MimiConfig
from duplex.errors import UsageError

__all__ = ["Memory", "predict"]

FLOAT32 = 4
STEP = 0.13e9
"""Bytes that a step on CUDA needs besides, for any number of sessions: workspaces, and what is between operations."""
STEP_OF_A_SESSION = 6e6
"""Bytes that it needs for each session."""


@attrs.frozen(kw_only=True)
class Memory:
    """Bytes on the device."""

    weights: int
    session: int
    """Of each place for a conversation, its whole past included."""
    sessions: int
    step: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.sessions * self.session + self.step

    def check(self, device: torch.device) -> None:
        """Check that the device has so much.

        :raises UsageError: telling how many sessions would fit
        """
        there = _there(device)
        if there is None or self.total <= there:
            return
        fitting = int((there - self.weights - self.step) // self.session)
        advice = f"sessions={fitting} would fit" if fitting > 0 else "use fewer bits, or a device with more memory"
        raise UsageError(
            f"{self.sessions} sessions of this model need {self.total / 1e9:.1f} GB and {device} has "
            f"{there / 1e9:.1f} GB free; {advice} (quantize='int8' or 'int4' and cache_dtype='int8' need less)"
        )


def predict(
    config: LanguageModelConfig,
    mimi_config: MimiConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    sessions: int,
    quantize: Kind | None = None,
    int8_cache: bool = False,
) -> Memory:
    """Return what a model of these configurations takes, loaded so."""
    with torch.device("meta"):
        lm, mimi = LanguageModel(config), Mimi(mimi_config, config.codebooks)
    lm.transformer.ring.quantized = int8_cache
    weights = sum(
        _rounded_size(tensor.shape, quantize)
        if quantize and quantizable(name, tensor.shape)
        else tensor.numel() * dtype.itemsize
        for name, tensor in lm.state_dict().items()
    )
    weights += sum(tensor.numel() * FLOAT32 for tensor in (*mimi.parameters(), *mimi.buffers()))
    heard = sum(_state_size(tensor, torch.float32) for tensor in bind(mimi, "mimi").values())
    thought = sum(_state_size(tensor, dtype) for tensor in bind(lm, "lm", LONGEST_RUN).values())
    step = STEP + sessions * STEP_OF_A_SESSION if device.type == "cuda" else 0
    return Memory(weights=weights, session=heard + thought, sessions=sessions, step=int(step))


def _rounded_size(shape: torch.Size, kind: Kind) -> int:
    if kind == "int4":
        return shape[0] * (shape[1] // 2 + shape[1] // GROUP * torch.bfloat16.itemsize)
    return shape[0] * (shape[1] + FLOAT32)


def _state_size(declared: Declared, dtype: torch.dtype) -> int:
    return torch.Size(declared.shape).numel() * (declared.dtype or dtype).itemsize


def _there(device: torch.device) -> int | None:
    """Return a GPU's free memory, or all that a CPU has: what others hold there may be let go. ``None``: not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not on Windows
        return None
