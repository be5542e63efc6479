"""Settings of the codec's training, and the configuration of a small codec."""

from typing import Any

import attrs

from duplex.training.settings import RunSettings
from duplex.training.validators import at_least

__all__ = ["TINY_CODEC", "CodecSettings", "CropSettings"]

TINY_CODEC: dict[str, Any] = {
    "sample_rate": 24000,
    "channels": 1,
    "frame_rate": 12.5,
    "seanet": {
        "channels": 1,
        "dimension": 256,
        "causal": True,
        "n_filters": 16,
        "n_residual_layers": 1,
        "activation": "ELU",
        "compress": 2,
        "dilation_base": 2,
        "disable_norm_outer_blocks": 0,
        "kernel_size": 7,
        "residual_kernel_size": 3,
        "last_kernel_size": 3,
        "norm": "none",
        "pad_mode": "constant",
        "ratios": [8, 6, 5, 4],
        "true_skip": True,
    },
    "quantizer": {"dimension": 64, "n_q": 8, "bins": 512, "input_dimension": 256, "output_dimension": 256},
    "transformer": {
        "d_model": 256,
        "num_heads": 8,
        "num_layers": 2,
        "causal": True,
        "layer_scale": 0.1,
        "context": 50,
        "conv_layout": True,
        "max_period": 10000,
        "gating": "none",
        "norm": "layer_norm",
        "positional_embedding": "rope",
        "dim_feedforward": 1024,
        "input_dimension": 256,
        "output_dimensions": [256],
    },
}
"""A small codec's ``mimi_config.json``: 5.5 million parameters, 11 MB in bfloat16, 0.9 kbit/s. Its transformers attend
to two seconds, less than a training crop, so that inference has no distances that did not occur in training."""


@attrs.frozen(kw_only=True)
class CropSettings(RunSettings):
    """What is drawn from a corpus: a batch is of crops."""

    batch: int = attrs.field(default=4, validator=at_least(1))
    """Crops per step, on each device."""
    crop_frames: int = attrs.field(validator=at_least(2))
    """Frames of a crop that are decoded and compared."""
    agent_share: float = attrs.field(validator=at_least(0))
    """Share of the crops with the agent's voice."""


@attrs.frozen(kw_only=True)
class CodecSettings(CropSettings):
    """Settings of a codec's training. Only ``steps`` may change when a run is resumed."""

    steps: int = attrs.field(default=10000, validator=at_least(1))
    crop_frames: int = attrs.field(default=28, validator=at_least(2))
    learning_rate: float = attrs.field(default=1.2e-3, validator=at_least(0))
    warmup: int = attrs.field(default=200, validator=at_least(0))
    plain_steps: int = attrs.field(default=1500, validator=at_least(0))
    """Steps in which only the encoder is trained, without quantizer and decoder."""
    reading_steps: int = attrs.field(default=300, validator=at_least(0))
    """First steps of a run that starts from a codec, in which only the heads are trained, at the full learning rate:
    gradients of untrained heads would damage the codec."""
    plain_share: float = attrs.field(default=0.2, validator=at_least(0))
    """Share of the crops that bypass the quantizer after that (0.5 in the paper); none in the last quarter."""
    agent_share: float = attrs.field(default=0.3, validator=at_least(0))
    waveform_weight: float = attrs.field(default=0.1, validator=at_least(0))
    commitment_weight: float = attrs.field(default=0.25, validator=at_least(0))
    spectrum_weight: float = attrs.field(default=1.0, validator=at_least(0))
    teacher_weight: float = attrs.field(default=0.8, validator=at_least(0))
    decoder_gradient: float = attrs.field(default=0.2, validator=at_least(0))
    """Share of the decoder's gradient that reaches quantizer and encoder, in the second half of the run; see
    :class:`duplex.training.codec.training_module.MimiTrainingModule`."""

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each loss in the sum."""
        return {
            "mel": 1.0,
            "waveform": self.waveform_weight,
            "commitment": self.commitment_weight,
            "spectrum_heard": self.spectrum_weight,
            "spectrum_told": self.spectrum_weight,
            "teacher_first": self.teacher_weight,
            "teacher_whole": self.teacher_weight / 2,
        }

    def plain_share_at(self, step: int) -> float:
        """Return the share of crops that bypass the quantizer in a step."""
        if step < self.plain_steps:
            return 1.0
        return self.plain_share if step < 0.75 * self.steps else 0.0

    def decoder_gradient_at(self, step: int) -> float:
        """Return the share of the decoder's gradient that reaches quantizer and encoder in a step."""
        return self.decoder_gradient if step >= 0.5 * self.steps else 0.0
