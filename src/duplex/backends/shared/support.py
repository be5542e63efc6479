"""What a backend does not run yet of the configurations that are read: refused by name, so that nothing half-loads."""

from collections.abc import Collection

from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.errors import ConfigError
from duplex.parsing import shown

__all__ = ["check_runs"]


def check_runs(config: LanguageModelConfig, not_run: Collection[str]) -> None:
    """Check that a model needs nothing of ``not_run``, keys of its configuration.

    :raises ConfigError: naming the key
    """
    if config.model_type == "tts":
        raise ConfigError("'model_type' is 'tts': this version reads models of speech synthesis, and does not run them")
    plain = LanguageModelConfig()
    for name in not_run:
        value = getattr(config, name)
        if value != getattr(plain, name):
            raise ConfigError(f"'{name}' is {shown(value)}, which this backend does not run yet; try another one")
