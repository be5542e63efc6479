"""Settings of the decoder's training."""

import attrs

from duplex.training.codec.settings import CropSettings
from duplex.training.validators import at_least

__all__ = ["DecoderSettings"]


@attrs.frozen(kw_only=True)
class DecoderSettings(CropSettings):
    """What can be chosen. No run against discriminators has been seen to help yet; the others are what was measured."""

    steps: int = attrs.field(default=12000, validator=at_least(1))
    batch: int = attrs.field(default=6, validator=at_least(1))
    crop_frames: int = attrs.field(default=8, validator=at_least(2))
    context_frames: int = attrs.field(default=14, validator=at_least(1))
    """Frames before them that the decoder's transformer has heard."""
    learning_rate: float = attrs.field(default=6e-4, validator=at_least(0))
    warmup: int = attrs.field(default=100, validator=at_least(0))
    agent_share: float = attrs.field(default=0.75, validator=at_least(0))
    """Share of the crops with the agent's voice; without the others, the decoder forgets all voices but that."""
    mel_weight: float = attrs.field(default=15.0, validator=at_least(0))
    spectrum_weight: float = attrs.field(default=15.0, validator=at_least(0))
    adversarial_steps: int = attrs.field(default=0, validator=at_least(0))
    """Last steps of the run, in which there are discriminators; each takes four times as long."""
    discriminator_steps: int = attrs.field(default=300, validator=at_least(0))
    """First of those, in which the discriminators learn to tell the decoder from real speech, and it does not hear
    them: the gradients of untrained ones would damage it."""
    discriminator_channels: int = attrs.field(default=16, validator=at_least(1))
    adversarial_weight: float = attrs.field(default=1.0, validator=at_least(0))
    """Of the discriminators' judgement."""
    feature_weight: float = attrs.field(default=12.0, validator=at_least(0))
    """Of the distance between what they see in both."""
    average_decay: float = attrs.field(default=0.998, validator=at_least(0))
    """Of the moving average of the weights, which is what is exported."""
