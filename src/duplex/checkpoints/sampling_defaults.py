"""How a checkpoint is sampled unless somebody asks otherwise: ``lm_gen_config``, and what its kind usually has."""

import math
from typing import Any, cast

import attrs

from duplex.errors import ConfigError
from duplex.options import SessionOptions
from duplex.parsing import shown

__all__ = ["DEFAULT_OPTIONS", "SPEECH_OPTIONS", "default_options"]

DEFAULT_OPTIONS = SessionOptions(temperature=0.8, text_temperature=0.7, top_k=250, text_top_k=25, seed=0, guidance=1.0)
SPEECH_OPTIONS = attrs.evolve(DEFAULT_OPTIONS, temperature=0.6, text_temperature=0.6, guidance=2.0)
"""Of models of speech synthesis: those of the published commands."""
GENERATION_KEYS = {
    "temp": "temperature",
    "temp_text": "text_temperature",
    "text_temp": "text_temperature",
    "top_k": "top_k",
    "top_k_text": "text_top_k",
    "cfg_coef": "guidance",
}


def default_options(generation: Any, where: str, usual: SessionOptions) -> SessionOptions:
    """Return the sampling defaults from ``lm_gen_config``.

    :raises ConfigError: if it is invalid, or has a key that this version does not know
    """
    settings = cast("dict[str, Any]", generation or {})
    if not isinstance(generation, dict | None):
        raise ConfigError(f"{where}: 'lm_gen_config' is {shown(generation)}, but an object is wanted")
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "use_sampling" and isinstance(value, bool):
            values["greedy"] = not value
        elif key not in GENERATION_KEYS:
            raise ConfigError(
                f"{where}: 'lm_gen_config' has {shown(key)}, which this version does not know; a newer one may"
            )
        else:
            whole = key.startswith("top")
            if (
                isinstance(value, bool)
                or not isinstance(value, int if whole else int | float)
                or not 0 <= value < math.inf
            ):
                raise ConfigError(
                    f"{where}: 'lm_gen_config': '{key}' is {shown(value)}, but a number from 0 up is wanted"
                )
            values[GENERATION_KEYS[key]] = value
    try:
        return SessionOptions(**values).with_defaults(usual)
    except ValueError as error:
        raise ConfigError(f"{where}: 'lm_gen_config': {error}") from None
