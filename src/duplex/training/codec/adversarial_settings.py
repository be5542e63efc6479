"""Settings of the decoder's adversarial training."""

import attrs

from duplex.training.codec.settings import CropSettings
from duplex.training.validators import at_least

__all__ = ["AdversarialSettings"]


@attrs.frozen(kw_only=True)
class AdversarialSettings(CropSettings):
    """What can be chosen. No run of the defaults has been measured."""

    steps: int = attrs.field(default=4000, validator=at_least(1))
    crop_frames: int = attrs.field(default=10, validator=at_least(2))
    context_frames: int = attrs.field(default=14, validator=at_least(1))
    """Frames before them that the decoder's transformer has heard."""
    learning_rate: float = attrs.field(default=3e-4, validator=at_least(0))
    warmup: int = attrs.field(default=100, validator=at_least(0))
    spectral_steps: int = attrs.field(default=12000, validator=at_least(0))
    """First steps, without discriminators, at a fifth of the time."""
    discriminator_steps: int = attrs.field(default=200, validator=at_least(0))
    """Steps after those in which the discriminators learn to tell the decoder from real speech, and it does not hear
    them yet: the gradients of untrained ones would damage it."""
    discriminator_channels: int = attrs.field(default=16, validator=at_least(1))
    agent_share: float = attrs.field(default=0.6, validator=at_least(0))
    mel_weight: float = attrs.field(default=2.0, validator=at_least(0))
    spectrum_weight: float = attrs.field(default=1.0, validator=at_least(0))
    adversarial_weight: float = attrs.field(default=1.0, validator=at_least(0))
    """Of the discriminators' judgement; 0, with ``feature_weight`` 0, trains on the spectra alone."""
    feature_weight: float = attrs.field(default=4.0, validator=at_least(0))
    average_decay: float = attrs.field(default=0.998, validator=at_least(0))
    """Of the moving average of the weights, which is what is exported."""

    @property
    def is_adversarial(self) -> bool:
        """Whether there is anything for discriminators to do."""
        return self.adversarial_weight > 0 or self.feature_weight > 0
