"""The language model that a run begins with."""

import json
from collections.abc import Mapping
from typing import Any

import attrs
import torch

from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.loading import read_language_model
from duplex.checkpoints.checkpoint import Checkpoint, resolve
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.layout import CheckpointLayout, read_json
from duplex.checkpoints.sources import CONFIG, resolve_source
from duplex.checkpoints.transformers_config import is_of_transformers_config
from duplex.errors import ConfigError
from duplex.training.language_model.initialization import initialize
from duplex.training.language_model.settings import TINY_LANGUAGE_MODEL, LanguageModelSettings

__all__ = ["StartingPoint", "read_initial"]


@attrs.frozen(kw_only=True)
class StartingPoint:
    """The configuration that is trained, and the checkpoint that it starts from, if there is one."""

    config: Mapping[str, Any]
    """As in ``config.json``."""
    shape: LanguageModelConfig
    checkpoint: Checkpoint | None

    @classmethod
    def find(cls, start_from: str | None, config: Mapping[str, Any] | None) -> "StartingPoint":
        """Find it: ``config`` is by default that of the model to start from, or a small one.

        :raises ConfigError: if the configuration is invalid or unsupported, or is not that of the initial model
        :raises CheckpointError: if the initial model cannot be found
        """
        if start_from is None:
            small = _of_model(TINY_LANGUAGE_MODEL if config is None else config)
            return cls(config=small, shape=_shape(small), checkpoint=None)
        found = resolve(start_from, parts=("model",))
        shape = found.language_model or LanguageModelConfig()
        wanted = _written(start_from, shape) if config is None else dict(config)
        if shape != _shape(_of_model(wanted)):
            raise ConfigError(f"'{start_from}' is a model of another configuration; give that one with --config")
        return cls(config=wanted, shape=shape, checkpoint=found)

    @property
    def model_config(self) -> dict[str, Any]:
        """The language model's part of the configuration."""
        return _of_model(self.config)

    @property
    def size(self) -> int:
        """The number of the model's weights."""
        with torch.device("meta"):
            return LanguageModel(self.shape).size

    def model(self, settings: LanguageModelSettings, device: torch.device) -> LanguageModel:
        """Return the model: initialized, or read; one that only gets adapters is on ``device`` in its own numbers.

        :raises WeightsError: if weights are damaged
        """
        if settings.lora is None or self.checkpoint is None:
            model = LanguageModel(self.shape)
            initialize(model, settings.seed)
            if self.checkpoint is not None:
                model.load_state_dict(read_initial(self.checkpoint, torch.float32, torch.device("cpu")).state_dict())
            return model
        base = settings.lora.base
        dtype = torch.float32 if base == "float32" else torch.bfloat16
        return read_initial(self.checkpoint, dtype, device, quantized=base == "int8")


def read_initial(
    found: Checkpoint, dtype: torch.dtype, device: torch.device, *, quantized: bool = False
) -> LanguageModel:
    """Read the model of a checkpoint that was found.

    :raises WeightsError: if weights are damaged
    :raises ConfigError: if it is no language model
    """
    if found.language_model is None or found.weights is None:
        raise ConfigError(f"'{found.name}' is no language model; give the name of one")
    return read_language_model(
        found.language_model,
        found.weights,
        dtype=dtype,
        device=device,
        quantize="int8" if quantized else None,
        adapter=found.adapter,
    )


def _written(name: str, shape: LanguageModelConfig) -> dict[str, Any]:
    """Return a checkpoint's ``config.json``; without one in the published layout, what was read stands for it."""
    _, source = resolve_source(name, None, progress=False)
    written = read_json(source.fetch(CONFIG), f"{name}: {CONFIG}") if source.has(CONFIG) else {}
    if is_of_transformers_config(written) or not _of_model(written):
        return json.loads(json.dumps(shape.identity()))
    return dict(written)


def _of_model(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in CheckpointLayout.NON_MODEL_KEYS}


def _shape(config: Mapping[str, Any]) -> LanguageModelConfig:
    return LanguageModelConfig.from_dict(config, where="the language model's configuration")
