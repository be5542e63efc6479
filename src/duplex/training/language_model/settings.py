"""What can be chosen about a training run of the language model, and a small model's shape."""

from typing import Any

import attrs

from duplex.training.checks import at_least, check_seed
from duplex.training.schedule import warmed_cosine

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
    """How the language model is trained. ``steps`` may be changed when a run goes on; the rest belongs to the run."""

    steps: int = attrs.field(default=8000, validator=at_least(1))
    batch: int = attrs.field(default=3, validator=at_least(1))
    """Stretches of dialogue in a step, on each device."""
    frames: int = attrs.field(default=500, validator=at_least(2))
    """Length of a stretch: more than the context, so that the window moves in training as it does in use."""
    learning_rate: float = attrs.field(default=1.5e-3, validator=at_least(0))
    warmup: int = attrs.field(default=200, validator=at_least(0))
    padding_weight: float = attrs.field(default=0.3, validator=at_least(0))
    """Of padding tokens in the text's loss, where words have 1."""
    semantic_weight: float = attrs.field(default=100.0, validator=at_least(0))
    """Of the first codebook in the codes' loss, where the others have 1 (section 3.4 of the paper)."""
    user_text_weight: float = attrs.field(default=0.5, validator=at_least(0))
    """Of what the user says, read from what the model has understood; the head that reads it is not released."""
    user_text_delay: int = attrs.field(default=4, validator=at_least(0))
    """Frames after which it is read: a word is understood once it has been heard."""
    coarse_share: float = attrs.field(default=0.5, validator=at_least(0))
    """Share of the stretches in which the user's finer codebooks, from one drawn at random on, are not heard."""
    unheard_share: float = attrs.field(default=0.15, validator=at_least(0))
    """Share of the user's codes that are not heard, each by itself: what is learnt shall not hang on single codes."""
    unaided_share: float = attrs.field(default=1.0, validator=at_least(0))
    """Share of the stretches in which the agent's own codes are not heard: how a voice begins a sentence betrays how it
    ends, and what to say shall follow from what the user said. With 1 the model never hears itself, released or not."""
    missed_share: float = attrs.field(default=0.05, validator=at_least(0))
    """Share of the frames in which nothing of the user is heard."""
    depth_share: float = attrs.field(default=0.4, validator=at_least(0))
    """Share of the frames whose codes are learnt in a step: sounds take fewer examples than what to say."""
    start_from: str | None = None
    """A model of the same configuration and tokenizer whose weights are the first ones, as :func:`duplex.load` takes
    it; ``None`` begins at random."""
    seed: int = attrs.field(default=0, validator=check_seed)

    def learning_rate_at(self, step: int) -> float:
        """Return the rate of a step."""
        return warmed_cosine(self.learning_rate, step, self.warmup, self.steps)
