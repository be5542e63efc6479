"""Settings of the language model's training, and the configuration of a small model."""

from typing import Any

import attrs

from duplex.training.schedules import cosine_with_warmup
from duplex.training.validators import at_least, valid_seed

__all__ = ["TINY_LANGUAGE_MODEL", "LanguageModelSettings"]

TINY_LANGUAGE_MODEL: dict[str, Any] = {
    "n_q": 16,
    "dep_q": 8,
    "card": 512,
    "text_card": 900,
    "existing_text_padding_id": 3,
    "existing_text_end_padding_id": 0,
    "dim": 256,
    "num_heads": 8,
    "num_layers": 5,
    "hidden_scale": 3.5,
    "causal": True,
    "layer_scale": None,
    "context": 375,
    "max_period": 10000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 96,
    "depformer_dim_feedforward": 396,
    "depformer_num_heads": 4,
    "depformer_num_layers": 2,
    "depformer_layer_scale": None,
    "depformer_multi_linear": True,
    "depformer_context": 8,
    "depformer_max_period": 10000,
    "depformer_gating": "silu",
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
    "delays": [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1],
}
"""A small language model's part of ``config.json``, with Moshi's delays."""


@attrs.frozen(kw_only=True)
class LanguageModelSettings:
    """Settings of a run. Only ``steps`` may change when a run is resumed."""

    steps: int = attrs.field(default=8000, validator=at_least(1))
    batch: int = attrs.field(default=3, validator=at_least(1))
    """Dialogue segments per step, on each device."""
    frames: int = attrs.field(default=500, validator=at_least(2))
    """Length of a segment: more than the context, so that the attention window slides in training as in inference."""
    learning_rate: float = attrs.field(default=1.5e-3, validator=at_least(0))
    warmup: int = attrs.field(default=200, validator=at_least(0))
    padding_weight: float = attrs.field(default=0.3, validator=at_least(0))
    """Weight of padding tokens in the text loss, where words have 1."""
    semantic_weight: float = attrs.field(default=100.0, validator=at_least(0))
    """Weight of the first codebook in the codes' loss, where the others have 1 (section 3.4 of the paper)."""
    user_text_weight: float = attrs.field(default=0.5, validator=at_least(0))
    """Weight of the user's words, predicted by an auxiliary head that is not exported."""
    user_text_delay: int = attrs.field(default=4, validator=at_least(0))
    """Delay of that prediction in frames: a word is recognized only once it is complete."""
    coarse_share: float = attrs.field(default=0.5, validator=at_least(0))
    """Share of the segments in which the user's finer codebooks, from a random one on, are dropped."""
    unheard_share: float = attrs.field(default=0.15, validator=at_least(0))
    """Dropout rate of the user's codes, each by itself, so that the model does not rely on single codes."""
    unaided_share: float = attrs.field(default=1.0, validator=at_least(0))
    """Share of the segments in which the agent's own codes are dropped: the beginning of a spoken sentence gives away
    its end, but the answer has to follow from the user's words. With 1 the model never has its own audio as input, in
    training or in inference."""
    missed_share: float = attrs.field(default=0.05, validator=at_least(0))
    """Share of the frames in which all of the user's codes are dropped."""
    depth_share: float = attrs.field(default=0.4, validator=at_least(0))
    """Share of the frames on which the depth transformer is trained in a step: audio needs fewer examples than text."""
    start_from: str | None = None
    """Initial weights: a model of the same configuration and tokenizer, as :func:`duplex.load` takes it; ``None``
    initializes at random."""
    seed: int = attrs.field(default=0, validator=valid_seed)

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return cosine_with_warmup(self.learning_rate, step, self.warmup, self.steps)
