"""Adapters for several files of tests: the reference one, and one for every matrix of a relative."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from duplex.checkpoints.adapters import Adapter, find_adapter
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.layout import CheckpointLayout, read_json
from duplex.checkpoints.sources import CONFIG
from duplex.checkpoints.weights_file import read_header

FAMILY = Path(__file__).parents[1] / "data" / "family"
ADAPTER = FAMILY / "lora"
WEIGHTS = "hibiki-pytorch-small.safetensors"


def load_floats(path):
    from safetensors.torch import load_file  # noqa: PLC0415 -- numpy has no bfloat16

    return {name: tensor.float().numpy() for name, tensor in load_file(path).items()}


def relative(name, folder):
    """Return the configuration of one of the family, a file with the sum of it and an adapter, and that adapter."""
    mapping = read_json(FAMILY / name / CONFIG, name)
    own = {key: value for key, value in mapping.items() if key not in CheckpointLayout.NON_MODEL_KEYS}
    config = LanguageModelConfig.from_dict(own, where=name)
    weights = load_floats(FAMILY / name / WEIGHTS)
    random, tensors, summed = np.random.default_rng(5), {}, dict(weights)
    for key, weight in weights.items():
        if weight.ndim != 2 or "emb." in key or key.endswith("embed.weight"):
            continue
        stacked = key.startswith("depformer.") and "self_attn" in key
        sets = len(set(config.depth_weight_sets)) if stacked else 1
        down = random.standard_normal((sets * 2, weight.shape[1])).astype(np.float32) / 8
        up = random.standard_normal((len(weight), 2)).astype(np.float32) / 8
        module = key.removesuffix(".weight").removesuffix("_weight")
        tensors |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
        blocks = zip(np.split(weight, sets), np.split(up, sets), np.split(down, sets), strict=True)
        summed[key] = np.concatenate([part + 2 * (b @ a) for part, b, a in blocks])
    save_file(tensors, folder / "lora.safetensors")
    save_file(summed, folder / "summed.safetensors")
    file = find_adapter(str(folder / "lora.safetensors"), progress=False)
    path = folder / "lora.safetensors"
    info = file.check(read_header(path), config, read_header(FAMILY / name / WEIGHTS), name)
    return config, folder / "summed.safetensors", Adapter(info=info, path=path)
