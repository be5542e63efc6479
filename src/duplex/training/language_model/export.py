"""Export of a trained language model as a complete checkpoint in the published layout, and of adapters alone."""

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
from duplex.training.language_model.adapters import Adapters
from duplex.training.language_model.settings import LoraSettings

__all__ = ["ADAPTER_WEIGHTS", "export_adapters", "export_language_model"]

ADAPTER_WEIGHTS = "lora.safetensors"

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


def export_adapters(adapters: Adapters, settings: LoraSettings, config: Mapping[str, Any], folder: Path) -> None:
    """Write ``lora.safetensors`` and its ``config.json``, as moshi-finetune does: the model's, with the adapter's keys.

    :raises OutputError: if they cannot be written
    """
    make_folder(folder)
    keys = {"lora": True, "lora_rank": settings.rank, "lora_scaling": settings.scaling}
    atomic_write_text(folder / CONFIG, json.dumps({**config, **keys}, indent=1) + "\n")
    atomic_write_bytes(folder / ADAPTER_WEIGHTS, save(adapters.published()))
