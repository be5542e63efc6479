"""The configuration of a checkpoint, as published: ``config.json`` and Mimi's own file.

Fields carry the published names. A key that is not known here, or a value that this package cannot run, is an error
with the key's name: half a model must never load.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from duplex.checkpoints.validation import COUNTS, Section, count, number, only, typed
from duplex.errors import ConfigError

__all__ = ["LanguageModelConfig", "MimiConfig", "QuantizerConfig", "SeanetConfig", "TransformerConfig"]


@attrs.frozen(kw_only=True)
class SeanetConfig(Section):
    """Mimi's convolutional encoder and its mirror, the decoder (SEANet)."""

    channels: int = only(1)
    dimension: int = count(512)
    n_filters: int = count(64)
    ratios: tuple[int, ...] = attrs.field(default=(8, 6, 5, 4), converter=COUNTS)
    n_residual_layers: int = count(1)
    kernel_size: int = count(7)
    residual_kernel_size: int = count(3)
    last_kernel_size: int = count(3)
    dilation_base: int = count(2)
    compress: int = count(2)
    causal: bool = only(True)
    activation: str = only("ELU")
    norm: str = only("none")
    disable_norm_outer_blocks: int = only(0)
    pad_mode: str = only("constant")
    true_skip: bool = only(True)

    @property
    def hop(self) -> int:
        """Samples for one position of the encoder's output."""
        product = 1
        for ratio in self.ratios:
            product *= ratio
        return product


@attrs.frozen(kw_only=True)
class QuantizerConfig(Section):
    """Mimi's split residual quantizer: one semantic codebook beside ``n_q - 1`` acoustic ones."""

    dimension: int = count(256)
    n_q: int = count(32)
    bins: int = count(2048)
    input_dimension: int = count(512)
    output_dimension: int = count(512)


@attrs.frozen(kw_only=True)
class TransformerConfig(Section):
    """The transformer in Mimi's encoder, and the one in its decoder."""

    d_model: int = count(512)
    num_heads: int = count(8)
    num_layers: int = count(8)
    dim_feedforward: int = count(2048)
    context: int = count(250)
    max_period: float = number(10000)
    input_dimension: int = count(512)
    output_dimensions: tuple[int, ...] = attrs.field(default=(512,), converter=COUNTS)
    layer_scale: float = number(0.01)
    causal: bool = only(True)
    conv_layout: bool = only(True)
    gating: str = only("none")
    norm: str = only("layer_norm")
    positional_embedding: str = only("rope")


@attrs.frozen(kw_only=True)
class MimiConfig(Section):
    """Mimi as a whole. The defaults are the published codec's."""

    sample_rate: int = count(24000)
    channels: int = only(1)
    frame_rate: float = number(12.5)
    seanet: SeanetConfig = SeanetConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    transformer: TransformerConfig = TransformerConfig()

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, where: str) -> "MimiConfig":
        """Read Mimi's configuration.

        :raises ConfigError: naming what cannot be run
        """
        parts: dict[str, Any] = dict(mapping)
        for name, section in (
            ("seanet", SeanetConfig),
            ("quantizer", QuantizerConfig),
            ("transformer", TransformerConfig),
        ):
            if name in parts:
                if not isinstance(parts[name], Mapping):
                    raise ConfigError(f"{where}: '{name}' is {parts[name]!r}, but an object is wanted")
                parts[name] = section.from_mapping(parts[name], where=f"{where}: {name}")
        config = super().from_mapping(parts, where=where)
        config.check(where)
        return config

    @property
    def frame_size(self) -> int:
        """Samples in a frame."""
        return round(self.sample_rate / self.frame_rate)

    @property
    def positions_per_frame(self) -> int:
        """Positions of the encoder's output in a frame (2 in the published codec: 25 Hz to 12.5 Hz)."""
        return self.frame_size // self.seanet.hop

    def check(self, where: str) -> None:
        """Check what the parts must have in common.

        :raises ConfigError: naming the key that does not fit
        """
        width = self.seanet.dimension
        fits = {
            "frame_rate": self.frame_size >= 1,
            "seanet.ratios": self.seanet.hop >= 1 and self.frame_size % self.seanet.hop == 0,
            "quantizer.input_dimension": self.quantizer.input_dimension == width,
            "quantizer.output_dimension": self.quantizer.output_dimension == width,
            "quantizer.n_q": self.quantizer.n_q >= 2,  # noqa: PLR2004 -- one semantic and at least one acoustic
            "transformer.input_dimension": self.transformer.input_dimension == width == self.transformer.d_model,
            "transformer.output_dimensions": self.transformer.output_dimensions == (width,),
            "transformer.num_heads": self.transformer.d_model % (2 * self.transformer.num_heads) == 0,
        }
        for key, good in fits.items():
            if not good:
                raise ConfigError(f"{where}: '{key}' does not fit the rest of the codec's configuration")


MOSHI_7B_DELAYS = (0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1)


@attrs.frozen(kw_only=True)
class LanguageModelConfig(Section):
    """The temporal and the depth transformer. The defaults are Moshi 7B's, as repositories without a config have it."""

    IGNORED: ClassVar[frozenset[str]] = frozenset(
        {
            "depformer_causal",  # always causal
            "depformer_context",  # the depth transformer restarts at every frame
            "depformer_max_period",  # it has no positional embedding
            "lora_rank",  # of no effect without 'lora'
            "lora_scaling",
            "extra_heads_dim",  # of no effect without heads
        }
    )

    dim: int = count(4096)
    num_heads: int = count(32)
    num_layers: int = count(32)
    hidden_scale: float = number(4.125)
    context: int = count(3000)
    max_period: float = number(10000)
    text_card: int = count(32000)
    card: int = count(2048)
    n_q: int = count(16)
    dep_q: int = attrs.field(default=8, validator=[typed(int), attrs.validators.ge(0)])
    delays: tuple[int, ...] = attrs.field(default=MOSHI_7B_DELAYS, converter=COUNTS)
    existing_text_padding_id: int = attrs.field(default=3, validator=typed(int))
    existing_text_end_padding_id: int = attrs.field(default=0, validator=typed(int))
    depformer_dim: int = count(1024)
    depformer_dim_feedforward: int = count(4224)
    depformer_num_heads: int = count(16)
    depformer_num_layers: int = count(6)
    quantize: bool = only(False, True)
    causal: bool = only(True)
    layer_scale: float | None = only(None)
    gating: str = only("silu")
    norm: str = only("rms_norm_f32")
    positional_embedding: str = only("rope")
    depformer_layer_scale: float | None = only(None)
    depformer_multi_linear: bool = only(True)
    depformer_gating: str = only("silu")
    depformer_pos_emb: str = only("none")
    depformer_weights_per_step: bool = only(True)
    depformer_weights_per_step_schedule: list[int] | None = only(None)  # noqa: RUF009 -- a field, not a shared value
    depformer_low_rank_embeddings: int | None = only(None)
    depformer_norm: str | None = only(None)
    conditioners: dict[str, Any] | None = only(None, {})  # noqa: RUF009 -- a field, not a shared value
    fuser: dict[str, Any] | None = only(None, {})  # noqa: RUF009 -- a field, not a shared value
    cross_attention: bool = only(False)
    demux_second_stream: bool = only(False)
    extra_heads_num_heads: int = only(0)
    text_card_out: int | None = only(None)
    kv_repeat: int = only(1)
    lora: bool = only(False)

    @property
    def agent_streams(self) -> int:
        """Audio streams that the agent speaks in.

        A checkpoint whose depth transformer covers every stream (PersonaPlex) was trained to predict the user's half
        too; that half is heard, not spoken.
        """
        return self.dep_q if self.dep_q < self.n_q else self.n_q // 2

    @property
    def user_streams(self) -> int:
        """Audio streams that the user is heard in."""
        return self.n_q - self.agent_streams

    @property
    def codebooks(self) -> int:
        """Codebooks of the codec that the model uses."""
        return max(self.agent_streams, self.user_streams)

    @property
    def feedforward(self) -> int:
        """Width of the temporal transformer's gated feed-forward."""
        return gated_width(int(self.hidden_scale * self.dim), self.dim)

    @property
    def depformer_feedforward(self) -> int:
        """Width of the depth transformer's gated feed-forward."""
        return gated_width(self.depformer_dim_feedforward, self.depformer_dim)

    def check(self, where: str) -> None:
        """Check what the parts must have in common.

        :raises ConfigError: naming the key that does not fit
        """
        fits = {
            "dep_q": self.dep_q <= self.n_q,
            "n_q": self.codebooks >= 2,  # noqa: PLR2004 -- Mimi's semantic codebook and at least one acoustic
            "delays": len(self.delays) == self.n_q + 1,
            "num_heads": self.dim % (2 * self.num_heads) == 0,
            "depformer_num_heads": self.depformer_dim % self.depformer_num_heads == 0,
            "existing_text_padding_id": 0 <= self.existing_text_padding_id < self.text_card,
            "existing_text_end_padding_id": 0 <= self.existing_text_end_padding_id < self.text_card,
        }
        for key, good in fits.items():
            if not good:
                raise ConfigError(f"{where}: '{key}' does not fit the rest of the model's configuration")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, where: str) -> "LanguageModelConfig":
        """Read the language model's keys of ``config.json``.

        :raises ConfigError: naming what cannot be run
        """
        config = super().from_mapping(mapping, where=where)
        config.check(where)
        return config


def gated_width(dim_feedforward: int, dim: int) -> int:
    """Return the hidden width of a gated feed-forward, by the published models' rule.

    Two thirds of the plain width keep the number of weights; a width of exactly 4 times ``dim`` is taken as 21/8.
    """
    return (21 * dim) // 8 if dim_feedforward == 4 * dim else (2 * dim_feedforward) // 3
