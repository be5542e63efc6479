"""What ``config.json`` says of some models alone: of recognition (``stt_config``), synthesis (``tts_config``), LoRA."""

from collections.abc import Mapping
from typing import Any, Self

import attrs

from duplex.checkpoints.validation import (
    LARGEST_INTEGER,
    StrictConfig,
    in_range,
    positive_number,
    strict_type,
    supported,
)

__all__ = ["AdapterConfig", "SttConfig", "TtsConfig"]

MAX_SECONDS = 60


def _seconds(default: float) -> float:
    return attrs.field(default=default, validator=[strict_type((int, float)), in_range(0, MAX_SECONDS)])


@attrs.frozen(kw_only=True)
class SttConfig(StrictConfig):
    """How a recognition model lies in time, in seconds: its words come ``audio_delay_seconds`` after they were said."""

    audio_delay_seconds: float = _seconds(0)
    audio_silence_prefix_seconds: float = _seconds(0)
    """Of silence that the model was trained to hear first."""


@attrs.frozen(kw_only=True)
class TtsConfig(StrictConfig):
    """How a synthesis model lies in time: its audio comes ``audio_delay`` seconds after the text."""

    audio_delay: float = _seconds(0)
    second_stream_ahead: int = attrs.field(default=0, validator=[strict_type(int), in_range(0, 64)])
    """By how many words the second text stream runs ahead of the first; 0 for models without it."""
    multistream: bool = supported(False)


@attrs.frozen(kw_only=True)
class AdapterConfig(StrictConfig):
    """How an adapter (LoRA) is added to the weights; without ``lora_rank``, its file alone says what rank it is of."""

    lora: bool = supported(False, True)
    lora_rank: int | None = attrs.field(
        default=None, validator=attrs.validators.optional([strict_type(int), in_range(1, LARGEST_INTEGER)])
    )
    lora_scaling: float = positive_number(2.0)

    @classmethod
    def of(cls, mapping: Mapping[str, Any], *, where: str) -> Self:
        """Validate the adapter's keys of a whole ``config.json``.

        :raises ConfigError: naming the key that is invalid
        """
        own = {field.name for field in attrs.fields(cls)}
        return cls.from_dict({key: value for key, value in mapping.items() if key in own}, where=where)
