"""Export of a trained codec in the published layout, which any loader of this family reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from duplex.atomic import atomic_write_bytes, atomic_write_text, make_folder
from duplex.backends.torch.mimi import Mimi
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS
from duplex.training.codec.initialization import plain_weights

__all__ = ["export_codec", "published_tensors"]


def export_codec(mimi: Mimi, config: Mapping[str, Any], folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write ``mimi_config.json`` and the weights in ``dtype``.

    :raises OutputError: if they cannot be written
    """
    make_folder(folder)
    atomic_write_text(folder / MIMI_CONFIG, json.dumps(dict(config), indent=1) + "\n")
    atomic_write_bytes(folder / MIMI_WEIGHTS, save(published_tensors(mimi, dtype)))


def published_tensors(mimi: Mimi, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the weights by their published names.

    A codebook is written as its entries with a usage of 1, because the quotient of sums and counts, each rounded to
    ``dtype``, would be rounded twice.
    """
    tensors = plain_weights(mimi)
    for name in list(tensors):
        if name.endswith(".cluster_usage"):
            place = name.removesuffix(".cluster_usage")
            usage = tensors[name].clamp(min=1e-5)
            tensors[f"{place}.embedding_sum"] = tensors[f"{place}.embedding_sum"] / usage[:, None]
            tensors[name] = torch.ones_like(usage)
            tensors[f"{place}._initialized"] = torch.ones(1)  # set by the original once a codebook is initialized
    return {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()}
