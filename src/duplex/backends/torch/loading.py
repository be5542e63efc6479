"""The language model of a published file, for whoever steps it or goes on training it."""

import functools
from collections.abc import Mapping
from pathlib import Path

import torch

from duplex.backends.torch.adapter_bank import AdapterBank
from duplex.backends.torch.cores import steps_on_one_core
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.prepacking import prepack
from duplex.backends.torch.products.selector import ProductSelector
from duplex.backends.torch.quantize import Kind
from duplex.backends.torch.unfilled import unfilled
from duplex.backends.torch.weights import load_weights
from duplex.checkpoints.adapters import Adapter
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.weight_names import projection_rows
from duplex.errors import UsageError

__all__ = ["load_language_model", "read_language_model"]

END_OF_TEXT = 2
"""The token, in all published tokenizers."""


def load_language_model(
    config: LanguageModelConfig,
    weights: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    quantize: Kind | None = None,
    int8_cache: bool = False,
    guidance: bool = False,
    adapter: Adapter | None = None,
    adapters: Mapping[str, Adapter] | None = None,
    selector: ProductSelector | None = None,
) -> LanguageModel:
    """Load a language model for whoever steps it: as :func:`read_language_model`, laid out as a step reads it.

    On request its past is held in 8 bits, it has the second rows of guidance, and ``adapters`` by name, of which a
    session may choose one. The ``selector`` chooses how weights are laid out.

    :raises WeightsError: if the file is damaged or does not fit the configuration
    :raises UsageError: if guidance means nothing for the model; if one of ``adapters`` cannot be a session's own
    """
    if adapters and guidance:
        raise UsageError(
            "a model with guidance has one adapter for all its sessions; load it with adapter=..., or guidance=False"
        )
    model = read_language_model(config, weights, dtype=dtype, device=device, quantize=quantize, adapter=adapter)
    model.transformer.ring.quantized = int8_cache
    if guidance:
        model.guide()
    if selector is not None:
        selector.one_core = steps_on_one_core(model.size)
    prepack(model, selector, rows=2 if model.guided else 1)
    if adapters:
        model.adapters = AdapterBank.of(model, config, adapters, _outputs(config))
    return model


def _outputs(config: LanguageModelConfig) -> dict[str, int]:
    """Return the number of rows of each tensor, by its published name."""
    with unfilled():
        return {_published(name): len(tensor) for name, tensor in LanguageModel(config).state_dict().items()}


def _published(name: str) -> str:
    """Return a tensor's published name: the depth transformer's parts are kept at the top level."""
    return name.removeprefix("depth.")


def read_language_model(
    config: LanguageModelConfig,
    weights: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    quantize: Kind | None = None,
    adapter: Adapter | None = None,
) -> LanguageModel:
    """Read the language model of a published file, on request with an adapter, and with few bits for its weights.

    :raises WeightsError: if the file is damaged or does not fit the configuration
    """
    with unfilled():
        model = LanguageModel(config)
    load_weights(
        model,
        weights,
        dtype=dtype,
        device=device,
        published=_published,
        rows=functools.partial(projection_rows, config),
        quantize=quantize,
        adapter=adapter,
    )
    model.quantized = quantize
    if config.model_type == "hibiki":  # as its own program: the end of the source sounds like padding
        model.text_emb.weight[END_OF_TEXT] = model.text_emb.weight[config.existing_text_padding_id]
    model.prepare()
    return model
