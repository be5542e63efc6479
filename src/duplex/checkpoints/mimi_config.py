"""Mimi's configuration, in the file that ``mimi_config_name`` names: its convolutions, quantizer and transformers."""

from collections.abc import Mapping
from typing import Any

import attrs

from duplex.checkpoints.validation import (
    StrictConfig,
    integers,
    positive_int,
    positive_number,
    supported,
)
from duplex.errors import ConfigError
from duplex.parsing import shown

__all__ = ["MAX_STREAMS", "MimiConfig", "QuantizerConfig", "SeanetConfig", "TransformerConfig"]

MAX_LAYERS = 256
MAX_STREAMS = 128
MAX_FRAME_SIZE = 2**20
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
    n_q: int = positive_int(32, most=MAX_STREAMS)
    bins: int = positive_int(2048)
    input_dimension: int = positive_int(512)
    output_dimension: int = positive_int(512)


@attrs.frozen(kw_only=True)
class TransformerConfig(StrictConfig):
    """The transformers of Mimi's encoder and decoder."""

    d_model: int = positive_int(512)
    num_heads: int = positive_int(8)
    num_layers: int = positive_int(8, most=MAX_LAYERS)
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
    positional_embedding: str = supported("rope", "rope_concat")


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
            "frame_rate": 1 <= self.frame_size <= MAX_FRAME_SIZE,
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
