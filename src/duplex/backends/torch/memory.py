"""Prediction of the memory that a model takes, from its configuration alone.

Weights are counted as they are held, each with its scales where it is rounded; a session is the sum of its declared
state. What a step needs besides is small, and given as measured.
"""

import os
from collections.abc import Collection
from pathlib import Path

import torch

from duplex.backends.shared.memory import Memory, check_fits
from duplex.backends.torch.adapter_bank import adapter_numbers
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.prefill import LONGEST_RUN
from duplex.backends.torch.quantize import GROUP, Kind, quantizable
from duplex.backends.torch.speech_script import SpeechScript
from duplex.backends.torch.state import StateSpec, bind
from duplex.backends.torch.unfilled import unfilled
from duplex.checkpoints.adapters import AdapterInfo
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.synthesis.machine import MachineSettings

__all__ = ["STEP_ON_CPU", "available", "check_memory", "predict", "resident"]

FLOAT32 = 4
STEP_ON_CUDA = 0.13e9
"""Bytes that a step needs besides, for any number of sessions: workspaces, and what is between operations."""
STEP_OF_A_SESSION = 6e6
"""Bytes that it needs on CUDA for each session."""
STEP_ON_CPU = 0.15e9
"""Bytes that a process grows by for any model that it steps: programs, threads, what libraries make for themselves."""


def predict(
    config: LanguageModelConfig,
    mimi_config: MimiConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    sessions: int,
    quantize: Kind | None = None,
    int8_cache: bool = False,
    guidance: bool = False,
    adapters: Collection[AdapterInfo] = (),
) -> Memory:
    """Return what a model of these configurations takes, loaded so, with ``adapters`` that sessions may choose."""
    with unfilled():
        lm, mimi = LanguageModel(config), Mimi(mimi_config, config.codebooks)
    lm.transformer.ring.quantized = int8_cache
    if guidance:
        lm.guide()
    if config.model_type == "tts":
        lm.script = SpeechScript(MachineSettings(vocabulary=config.text_card + 1), lm.delays[lm.agent])
    weights = sum(
        _rounded_size(tensor.shape, quantize, device)
        if quantize and quantizable(name, tensor.shape)
        else tensor.numel() * dtype.itemsize
        for name, tensor in lm.state_dict().items()
    )
    weights += sum(tensor.numel() * FLOAT32 for tensor in (*mimi.parameters(), *mimi.buffers()))
    weights += adapter_numbers(lm, config, adapters) * dtype.itemsize
    heard = sum(_state_size(tensor, torch.float32) for tensor in bind(mimi, "mimi").values())
    thought = sum(_state_size(tensor, dtype) for tensor in bind(lm, "lm", LONGEST_RUN).values())
    step = STEP_ON_CUDA + sessions * STEP_OF_A_SESSION if device.type == "cuda" else STEP_ON_CPU
    kind = f"quantize='{quantize}'" if quantize else f"dtype='{str(dtype).removeprefix('torch.')}'"
    how = f"{kind} and cache_dtype='int8'" if int8_cache else kind
    return Memory(how=how, weights=weights, session=heard + thought, sessions=sessions, step=int(step))


def check_memory(
    config: LanguageModelConfig,
    mimi_config: MimiConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    sessions: int,
    quantize: Kind | None,
    int8_cache: bool,
    guidance: bool,
    adapters: Collection[AdapterInfo] = (),
) -> None:
    """Check that a device has the memory for a model.

    :raises UsageError: telling what would fit
    """
    wanted = predict(
        config,
        mimi_config,
        dtype=dtype,
        device=device,
        sessions=sessions,
        quantize=quantize,
        int8_cache=int8_cache,
        guidance=guidance,
        adapters=adapters,
    )
    choices: tuple[tuple[Kind | None, bool], ...] = (("int8", False), ("int8", True), ("int4", True))
    smaller = (
        predict(
            config,
            mimi_config,
            dtype=torch.bfloat16,
            device=device,
            sessions=1,
            quantize=kind,
            int8_cache=cache,
            guidance=guidance,
            adapters=adapters,
        )
        for kind, cache in choices
    )
    check_fits(wanted, available(device), str(device), smaller)


def _rounded_size(shape: torch.Size, kind: Kind, device: torch.device) -> int:
    if kind != "int4":
        return shape[0] * (shape[1] + FLOAT32)
    numbers = 2 if device.type == "cpu" else 1  # of a group: a scale, and on a CPU the zero that goes with it
    return shape[0] * (shape[1] // 2 + shape[1] // GROUP * numbers * torch.bfloat16.itemsize)


def _state_size(declared: StateSpec, dtype: torch.dtype) -> int:
    return torch.Size(declared.shape).numel() * (declared.dtype or dtype).itemsize


def available(device: torch.device) -> int | None:
    """Return a GPU's free memory, or all that a CPU has: what others hold there may be let go. ``None``: not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not on Windows
        return None


def resident() -> int:
    """Return the memory that this process has now, 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError, ValueError):  # not on macOS and Windows
        return 0
