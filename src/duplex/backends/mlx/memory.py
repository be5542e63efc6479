"""What a model needs of the machine's memory, told before anything is loaded."""

import functools
import os
from typing import Any

import mlx.core as mx

from duplex.backends.mlx.weights import PACKINGS
from duplex.backends.shared.memory import Memory, check_fits
from duplex.backends.shared.prefilling import LONGEST_RUN
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.weights_file import Header

__all__ = ["available", "check_memory", "predict"]

_BYTES = {"float32": 4, "bfloat16": 2}
_STEP = 0.05
"""What a step computes in between, as a part of the whole."""
_VOICES = 625
"""Vectors that a session of speech synthesis attends to: ten seconds each of five voices."""


def check_memory(
    config: LanguageModelConfig,
    weights: Header,
    mimi: Header,
    *,
    dtype: str,
    quantize: str | None,
    sessions: int,
    device: mx.Device,
    guidance: bool = False,
) -> None:
    """Check that a device has the memory for a model.

    :raises UsageError: telling what would fit
    """
    told = functools.partial(predict, config, weights, mimi, device=device, guidance=guidance)
    wanted = told(dtype=dtype, quantize=quantize, sessions=sessions)
    kinds = [None] if _packed(weights) else [None, "int8", "int4"]
    smaller = (told(dtype="bfloat16", quantize=kind, sessions=1) for kind in kinds)
    check_fits(wanted, available(device), "the GPU" if device.type == mx.gpu else "the machine", smaller)


def predict(
    config: LanguageModelConfig,
    weights: Header,
    mimi: Header,
    *,
    dtype: str,
    quantize: str | None,
    sessions: int,
    device: mx.Device,
    guidance: bool = False,
) -> Memory:
    """Return what a model of these files takes, loaded so; files that are quantized stay so.

    With ``guidance`` every session has a second row.
    """
    scale = _BYTES["float32" if device.type == mx.cpu else dtype]
    if _packed(weights):  # all but the packed words are, nearly, scales and offsets
        size = sum(4 * count if kind == "U32" else scale * count for kind, count in weights.elements.items())
    else:
        size = sum(weights.elements.values()) * (_BYTES[dtype] if quantize is None else _quantized(quantize, scale))
    size += 4 * sum(mimi.elements.values())
    past = (2 if guidance else 1) * _past(config, _BYTES[dtype])
    how = f"quantize='{quantize}'" if quantize else f"dtype='{dtype}'"
    step = _STEP * (size + sessions * past)
    return Memory(how=how, weights=int(size), session=past, sessions=sessions, step=int(step))


def _past(config: LanguageModelConfig, scale: int) -> int:
    """Return the bytes of one row's keys and values, of so many bytes a number: past ones, and of its conditions."""
    shared = config.dim // config.kv_repeat * (config.context + LONGEST_RUN - 1)
    return 2 * config.num_layers * scale * (shared + config.cross_attention * config.dim * _VOICES)


def available(device: mx.Device) -> int:
    """Return the bytes that a model may take: what the GPU recommends, or the machine's memory."""
    if device.type == mx.gpu:
        facts: Any = mx.device_info()
        return int(facts["max_recommended_working_set_size"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _packed(weights: Header) -> bool:
    return "U32" in weights.bytes


def _quantized(quantize: str, scale: int) -> float:
    """Return the bytes of a weight with its share of scales and offsets, of so many bytes each."""
    packing = PACKINGS[quantize]
    return packing.bits / 8 + 2 * scale / packing.group
