"""What a model takes and gives, from its configuration: the same on any backend."""

import numpy as np

from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.codec import CodecSpec
from duplex.frame_model import ModelSpec, StepResult

__all__ = ["empty_result", "model_spec"]


def model_spec(config: LanguageModelConfig, codec: CodecSpec, *, sessions: int) -> ModelSpec:
    """Return what a model of this configuration takes and gives."""
    return ModelSpec(
        kind=config.model_type,
        sample_rate=codec.sample_rate,
        frame_size=codec.frame_size,
        text_streams=1,
        agent_streams=config.agent_streams,
        user_streams=config.user_streams,
        text_vocabulary=_text_vocabulary(config),
        audio_vocabulary=config.card,
        text_padding=config.existing_text_padding_id,
        text_end_of_padding=config.existing_text_end_padding_id,
        delays=config.delays,
        context=config.context,
        capacity=sessions,
        extra_heads=config.extra_heads_num_heads,
        extra_classes=config.extra_heads_dim if config.extra_heads_num_heads else 0,
        conditions={name: part.values for name, part in config.conditioners.items()},
        dim=config.dim,
    )


def empty_result(spec: ModelSpec, *, scripted: bool) -> StepResult:
    """Return the result of a step of no slot at all; ``scripted`` is for a model that says texts."""
    rows = spec.capacity
    heads = np.zeros((rows, spec.extra_heads, spec.extra_classes), np.float32) if spec.extra_heads else None
    return StepResult(
        valid=np.zeros(rows, np.bool_),
        time_step=np.zeros(rows, np.int64),
        pcm=np.zeros((rows, spec.frame_size), np.float32),
        text=np.zeros(rows, np.int64),
        agent=np.zeros((rows, spec.agent_streams), np.int64),
        user=np.zeros((rows, spec.user_streams), np.int64),
        heads=heads,
        script=np.zeros((rows, 3), np.int64) if scripted else None,
    )


def _text_vocabulary(config: LanguageModelConfig) -> int:
    """Return how many text tokens there are; with a second stream one number says both."""
    one = config.text_card + 1
    return one * (one + 1) if config.demux_second_stream else config.text_card
