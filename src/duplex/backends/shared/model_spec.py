"""What a model takes and gives, from its configuration: the same on any backend."""

from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.codec import CodecSpec
from duplex.frame_model import ModelSpec

__all__ = ["model_spec"]


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


def _text_vocabulary(config: LanguageModelConfig) -> int:
    """Return how many text tokens there are; with a second stream one number says both."""
    one = config.text_card + 1
    return one * (one + 1) if config.demux_second_stream else config.text_card
