"""What ``config.json`` says of one kind of model alone: ``stt_config`` of recognition, ``tts_config`` of synthesis."""

import attrs

from duplex.checkpoints.validation import StrictConfig, in_range, strict_type, supported

__all__ = ["SttConfig", "TtsConfig"]

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
