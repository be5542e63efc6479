"""What a model needs of the machine's memory, told before anything is loaded."""

import os
from pathlib import Path
from typing import Any

import mlx.core as mx

from duplex.backends.mlx.weights import PACKINGS
from duplex.config import LanguageModelConfig
from duplex.errors import UsageError
from duplex.prefilling import LONGEST_RUN
from duplex.weights_file import Header, read_header

__all__ = ["available", "check_memory", "needed"]

_BYTES = {"float32": 4, "bfloat16": 2}
_GIGABYTE = 1e9
_BESIDES = 1.05
"""What a step computes in between, as a part of the whole."""


def check_memory(
    config: LanguageModelConfig,
    weights: Path,
    mimi_weights: Path,
    *,
    dtype: str,
    quantize: str | None,
    sessions: int,
    device: mx.Device,
) -> None:
    """Check that a model fits.

    :raises UsageError: if it does not, naming what would
    :raises WeightsError: if a file's header cannot be read
    """
    header, mimi = read_header(weights), read_header(mimi_weights)
    there = available(device)

    def size(dtype: str, quantize: str | None, sessions: int) -> float:
        return needed(config, header, mimi, dtype=dtype, quantize=quantize, sessions=sessions)

    wanted = size(dtype, quantize, sessions)
    if wanted <= there:
        return
    how = f"quantize={quantize!r}" if quantize else dtype
    problem = f"{weights}: {_told(wanted)} are needed ({how}, sessions={sessions}), but {_told(there)} are there"
    choices = [("bfloat16", None), ("bfloat16", "int8"), ("bfloat16", "int4")]
    if "U32" in header.bytes:
        choices = [("bfloat16", None)]
    for kind, smaller in choices:
        for many in dict.fromkeys((sessions, 1)):
            if (size_then := size(kind, smaller, many)) <= there:
                what = f"quantize={smaller!r}" if smaller else f"dtype={kind!r}"
                raise UsageError(f"{problem}; {what} with sessions={many} needs {_told(size_then)} and would fit")
    least = min(size(kind, smaller, 1) for kind, smaller in choices)
    raise UsageError(f"{problem}; the least that it runs in is {_told(least)}, so choose a smaller model")


def needed(
    config: LanguageModelConfig, header: Header, mimi: Header, *, dtype: str, quantize: str | None, sessions: int
) -> float:
    """Return the bytes that a model needs, about."""
    if "U32" in header.bytes:
        weights = float(sum(header.bytes.values()))
    else:
        numbers = sum(header.elements.values())
        weights = numbers * (_BYTES[dtype] if quantize is None else _bytes_quantized(quantize, dtype))
    past = 2 * config.num_layers * config.dim * (config.context + LONGEST_RUN) * _BYTES[dtype]
    return (weights + 4 * sum(mimi.elements.values()) + sessions * past) * _BESIDES


def available(device: mx.Device) -> float:
    """Return the bytes that a model may take: what the GPU recommends, or the machine's memory."""
    if device.type == mx.gpu:
        facts: Any = mx.device_info()
        return float(facts["max_recommended_working_set_size"])
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _bytes_quantized(quantize: str, dtype: str) -> float:
    packing = PACKINGS[quantize]
    return packing.bits / 8 + 2 * _BYTES[dtype] / packing.group


def _told(size: float) -> str:
    return f"{size / _GIGABYTE:.1f} GB"
