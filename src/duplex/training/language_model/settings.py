"""Settings of the language model's training, and the configuration of a small model."""

from typing import Any, Literal, Self

import attrs

from duplex.errors import UsageError
from duplex.training.settings import RunSettings
from duplex.training.validators import at_least

__all__ = ["TINY_LANGUAGE_MODEL", "BaseNumbers", "LanguageModelSettings", "LoraSettings"]

BaseNumbers = Literal["float32", "bfloat16", "int8"]
"""What a model that stays as it is is held in."""

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
class LoraSettings:
    """Settings of adapters of low rank; the defaults are those of the published fine-tuning."""

    rank: int = attrs.field(default=128, validator=at_least(1))
    scaling: float = attrs.field(default=2.0, validator=at_least(0))
    embeddings: bool = False
    """Whether the embeddings are learnt too, whole."""
    base: BaseNumbers = attrs.field(default="bfloat16", validator=attrs.validators.in_(("float32", "bfloat16", "int8")))
    """What the model's own weights are held in, which are not learnt."""


@attrs.frozen(kw_only=True)
class LanguageModelSettings(RunSettings):
    """Settings of a language model's training. Only ``steps`` may change when a run is resumed."""

    steps: int = attrs.field(default=8000, validator=at_least(1))
    batch: int = attrs.field(default=3, validator=at_least(1))
    """Dialogue segments at a time, on each device."""
    accumulate: int = attrs.field(default=1, validator=at_least(1))
    """Batches per step: their gradients are averaged, which takes no more memory than one."""
    frames: int = attrs.field(default=500, validator=at_least(2))
    """Length of a segment: more than the context, so that the attention window slides in training as in inference."""
    learning_rate: float = attrs.field(default=1.5e-3, validator=at_least(0))
    warmup: int = attrs.field(default=200, validator=at_least(0))
    padding_weight: float = attrs.field(default=0.3, validator=at_least(0))
    """Weight of padding tokens in the text loss, where words have 1."""
    end_of_padding_weight: float = attrs.field(default=1.0, validator=at_least(0))
    """Weight of the token before a word."""
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
    checkpointing: bool = False
    """Whether the activations of the temporal transformer's layers are computed again for the gradients instead of
    being kept: a third more work, and memory for one layer in place of all."""
    lora: LoraSettings | None = None
    """Adapters to be learnt instead of the model itself."""
    start_from: str | None = None
    """Initial weights: a model of the same configuration and tokenizer, as :func:`duplex.load` takes it; ``None``
    initializes at random."""

    teacher: str | None = None
    """A model of the same streams, as :func:`duplex.load` takes it, that is learnt from beside the dialogues: where it
    finds their token the likeliest, how likely it finds the others is learnt too. With the model to start from, what
    that one knew is kept better."""
    teacher_share: float = attrs.field(default=0.7, validator=at_least(0, most=1))
    """Share of the text's loss that is towards the teacher where it is right."""

    def __attrs_post_init__(self) -> None:
        """Check that what is to be adapted is named, and held in numbers that can be multiplied with.

        :raises UsageError: if it is not
        """
        if self.lora is None:
            return
        if self.start_from is None:
            raise UsageError("an adapter needs the model that it is for; give that one with --start-from")
        if self.precision == "float32" and self.lora.base != "float32":
            raise UsageError(f"a base in {self.lora.base} has products in bfloat16; give --base float32 too")

    @classmethod
    def fine_tuning(cls, start_from: str, lora: LoraSettings, **choices: Any) -> Self:
        """Return settings for adapters on a published model, with the hyper-parameters of moshi-finetune.

        These are 2000 steps of 16 segments of 100 s, AdamW with a learning rate of at most 2e-6 after 100 steps of
        warm-up, half weight for padding and its end, and 100 for the first codebook. The model hears itself, and
        nothing is left out of what the user says. ``choices`` replace single ones.
        """
        published: dict[str, Any] = {
            "steps": 2000,
            "batch": 1,
            "accumulate": 16,
            "frames": 1250,
            "learning_rate": 2e-6,
            "warmup": 100,
            "padding_weight": 0.5,
            "end_of_padding_weight": 0.5,
            "user_text_weight": 0.0,
            "coarse_share": 0.0,
            "unheard_share": 0.0,
            "unaided_share": 0.0,
            "missed_share": 0.0,
            "depth_share": 1.0,
            "checkpointing": True,
        }
        return cls(start_from=start_from, lora=lora, **(published | choices))

    def as_json(self) -> dict[str, Any]:
        """Return what belongs to a run's identity."""
        values = super().as_json()
        fields = attrs.fields_dict(type(self))
        for name in ("end_of_padding_weight", "accumulate", "checkpointing", "lora", "teacher", "teacher_share"):
            if values[name] == fields[name].default:
                del values[name]
        return values
