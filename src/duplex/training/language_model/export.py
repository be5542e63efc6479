"""Export of a trained language model as a complete checkpoint in the published layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from duplex.atomic import atomic_write_bytes, atomic_write_text, make_folder
from duplex.backends.torch.language_model import LanguageModel
from duplex.checkpoints.layout import MIMI_CONFIG, MIMI_WEIGHTS, WEIGHTS
from duplex.checkpoints.sources import CONFIG
from duplex.training.dialogues.plan import TOKENIZER

__all__ = ["export_language_model"]

NAMES: Mapping[str, Any] = {
    "moshi_name": WEIGHTS,
    "mimi_name": MIMI_WEIGHTS,
    "mimi_config_name": MIMI_CONFIG,
    "tokenizer_name": TOKENIZER,
    "model_type": "moshi",
}


def export_language_model(
    model: LanguageModel, config: Mapping[str, Any], files: Mapping[str, bytes], folder: Path
) -> None:
    """Write ``config.json``, the weights in bfloat16, and ``files``: the codec's and the tokenizer's files, by name.

    :raises OutputError: if they cannot be written
    """
    make_folder(folder)
    for name, content in files.items():
        atomic_write_bytes(folder / name, content)
    atomic_write_text(folder / CONFIG, json.dumps({**config, **NAMES}, indent=1) + "\n")
    tensors = {
        # Published files keep the depth transformer's parts at the top level.
        name.removeprefix("depth."): tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    atomic_write_bytes(folder / WEIGHTS, save(tensors))
