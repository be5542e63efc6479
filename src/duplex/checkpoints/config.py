"""The configurations of a checkpoint, as published: ``config.json`` of the language model, and Mimi's own file.

Fields have the published names. An unknown key or an unsupported value is an error that names the key: a model must
never be loaded in part.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from duplex.checkpoints.validation import (
    StrictConfig,
    in_range,
    integers,
    positive_int,
    positive_number,
    strict_type,
    supported,
)
from duplex.errors import ConfigError
from duplex.parsing import shown

__all__ = ["LanguageModelConfig", "MimiConfig", "QuantizerConfig", "SeanetConfig", "TransformerConfig"]

MOST_LAYERS = 256
MOST_STREAMS = 128
LONGEST_FRAME = 2**20
"""Samples."""


@attrs.frozen(kw_only=True)
class SeanetConfig(StrictConfig):
    """Mimi's convolutional encoder and decoder (SEANet)."""

    channels: int = supported(1)
    dimension: int = positive_int(512)
    n_filters: int = positive_int(64, most=2**16)
    ratios: tuple[int, ...] = integers((8, 6, 5, 4), most=1024, length=8)
    n_residual_layers: int = positive_int(1, most=16)
    kernel_size: int = positive_int(7, most=1024)
    residual_kernel_size: int = positive_int(3, most=1024)
    last_kernel_size: int = positive_int(3, most=1024)
    dilation_base: int = positive_int(2, most=4)
    compress: int = positive_int(2, most=1024)
    causal: bool = supported(True)
    activation: str = supported("ELU")
    norm: str = supported("none")
    disable_norm_outer_blocks: int = supported(0)
    pad_mode: str = supported("constant")
    true_skip: bool = supported(True)

    @property
    def hop_length(self) -> int:
        """Samples per position of the encoder's output: the product of the strides."""
        product = 1
        for ratio in self.ratios:
            product *= ratio
        return product


@attrs.frozen(kw_only=True)
class QuantizerConfig(StrictConfig):
    """Mimi's split residual vector quantizer: one semantic and ``n_q - 1`` acoustic codebooks."""

    dimension: int = positive_int(256)
    n_q: int = positive_int(32, most=MOST_STREAMS)
    bins: int = positive_int(2048)
    input_dimension: int = positive_int(512)
    output_dimension: int = positive_int(512)


@attrs.frozen(kw_only=True)
class TransformerConfig(StrictConfig):
    """The transformers of Mimi's encoder and decoder."""

    d_model: int = positive_int(512)
    num_heads: int = positive_int(8)
    num_layers: int = positive_int(8, most=MOST_LAYERS)
    dim_feedforward: int = positive_int(2048)
    context: int = positive_int(250)
    max_period: float = positive_number(10000)
    input_dimension: int = positive_int(512)
    output_dimensions: tuple[int, ...] = integers((512,))
    layer_scale: float = positive_number(0.01)
    causal: bool = supported(True)
    conv_layout: bool = supported(True)
    gating: str = supported("none")
    norm: str = supported("layer_norm")
    positional_embedding: str = supported("rope")


@attrs.frozen(kw_only=True)
class MimiConfig(StrictConfig):
    """The whole codec. The defaults are the published Mimi's."""

    sample_rate: int = positive_int(24000)
    channels: int = supported(1)
    frame_rate: float = positive_number(12.5)
    seanet: SeanetConfig = SeanetConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    transformer: TransformerConfig = TransformerConfig()

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any], *, where: str) -> "MimiConfig":
        """Validate Mimi's configuration.

        :raises ConfigError: naming the key that is invalid or unsupported
        """
        parts: dict[str, Any] = dict(mapping)
        for name, kind in (
            ("seanet", SeanetConfig),
            ("quantizer", QuantizerConfig),
            ("transformer", TransformerConfig),
        ):
            if name in parts:
                if not isinstance(parts[name], Mapping):
                    raise ConfigError(f"{where}: '{name}' is {shown(parts[name])}, but an object is wanted")
                parts[name] = kind.from_dict(parts[name], where=f"{where}: {name}")
        config = super().from_dict(parts, where=where)
        config.check(where)
        return config

    @property
    def frame_size(self) -> int:
        """Samples per frame."""
        return round(self.sample_rate / self.frame_rate)

    @property
    def positions_per_frame(self) -> int:
        """Positions of the encoder's output per frame (2 in the published codec: 25 Hz down to 12.5 Hz)."""
        return self.frame_size // self.seanet.hop_length

    def check(self, where: str) -> None:
        """Check that the parts agree with each other.

        :raises ConfigError: naming the key that does not fit
        """
        width = self.seanet.dimension
        fits = {
            "frame_rate": 1 <= self.frame_size <= LONGEST_FRAME,
            "seanet.ratios": self.seanet.hop_length >= 1 and self.frame_size % self.seanet.hop_length == 0,
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


MOST_DEPTH_LAYERS = 64
"""There is one of each for every one of the agent's streams."""
LONGEST_DELAY = 1024
"""Frames: over a minute."""
MOSHI_7B_DELAYS = (0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1)


@attrs.frozen(kw_only=True)
class LanguageModelConfig(StrictConfig):
    """The temporal and the depth transformer. The defaults are Moshi 7B's, for repositories without ``config.json``."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            "depformer_causal",  # always causal
            "depformer_context",  # the depth transformer restarts at every frame
            "depformer_max_period",  # it has no positional embedding
            "lora_rank",  # of no effect without 'lora'
            "lora_scaling",
            "extra_heads_dim",  # of no effect without heads
        }
    )

    dim: int = positive_int(4096)
    num_heads: int = positive_int(32)
    num_layers: int = positive_int(32, most=MOST_LAYERS)
    hidden_scale: float = positive_number(4.125, most=1024)
    context: int = positive_int(3000)
    max_period: float = positive_number(10000)
    text_card: int = positive_int(32000)
    card: int = positive_int(2048)
    n_q: int = positive_int(16, most=MOST_STREAMS)
    dep_q: int = attrs.field(default=8, validator=[strict_type(int), in_range(0, MOST_STREAMS)])
    delays: tuple[int, ...] = integers(MOSHI_7B_DELAYS, most=LONGEST_DELAY, length=1 + MOST_STREAMS)
    existing_text_padding_id: int = attrs.field(default=3, validator=strict_type(int))
    existing_text_end_padding_id: int = attrs.field(default=0, validator=strict_type(int))
    depformer_dim: int = positive_int(1024)
    depformer_dim_feedforward: int = positive_int(4224)
    depformer_num_heads: int = positive_int(16)
    depformer_num_layers: int = positive_int(6, most=MOST_DEPTH_LAYERS)
    quantize: bool = supported(False, True)
    causal: bool = supported(True)
    layer_scale: float | None = supported(None)
    gating: str = supported("silu")
    norm: str = supported("rms_norm_f32")
    positional_embedding: str = supported("rope")
    depformer_layer_scale: float | None = supported(None)
    depformer_multi_linear: bool = supported(True)
    depformer_gating: str = supported("silu")
    depformer_pos_emb: str = supported("none")
    depformer_weights_per_step: bool = supported(True)
    depformer_weights_per_step_schedule: list[int] | None = supported(None)  # noqa: RUF009 -- a field, not a shared value
    depformer_low_rank_embeddings: int | None = supported(None)
    depformer_norm: str | None = supported(None)
    conditioners: dict[str, Any] | None = supported(None, {})  # noqa: RUF009 -- a field, not a shared value
    fuser: dict[str, Any] | None = supported(None, {})  # noqa: RUF009 -- a field, not a shared value
    cross_attention: bool = supported(False)
    demux_second_stream: bool = supported(False)
    extra_heads_num_heads: int = supported(0)
    text_card_out: int | None = supported(None)
    kv_repeat: int = supported(1)
    lora: bool = supported(False)

    @property
    def agent_streams(self) -> int:
        """Number of the agent's audio streams.

        A checkpoint whose depth transformer covers every stream (PersonaPlex) was trained to predict the user's
        streams too; these are inputs only.
        """
        return self.dep_q if self.dep_q < self.n_q else self.n_q // 2

    @property
    def user_streams(self) -> int:
        """Number of the user's audio streams."""
        return self.n_q - self.agent_streams

    @property
    def codebooks(self) -> int:
        """Number of the codec's codebooks that the model uses."""
        return max(self.agent_streams, self.user_streams)

    @property
    def feedforward(self) -> int:
        """Hidden dimension of the temporal transformer's gated feed-forward layers."""
        return gated_hidden_dim(int(self.hidden_scale * self.dim), self.dim)

    @property
    def depformer_feedforward(self) -> int:
        """Hidden dimension of the depth transformer's gated feed-forward layers."""
        return gated_hidden_dim(self.depformer_dim_feedforward, self.depformer_dim)

    def check(self, where: str) -> None:
        """Check that the values agree with each other.

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
    def from_dict(cls, mapping: Mapping[str, Any], *, where: str) -> "LanguageModelConfig":
        """Validate the language model's keys of ``config.json``.

        :raises ConfigError: naming the key that is invalid or unsupported
        """
        config = super().from_dict(mapping, where=where)
        config.check(where)
        return config


def gated_hidden_dim(dim_feedforward: int, dim: int) -> int:
    """Return the hidden dimension of a gated feed-forward layer, by the published models' rule.

    Two thirds of the ungated dimension keep the parameter count; exactly ``4 * dim`` becomes ``21 / 8 * dim``.
    """
    return (21 * dim) // 8 if dim_feedforward == 4 * dim else (2 * dim_feedforward) // 3
