"""The language model's part of ``config.json``: the temporal and the depth transformer, and what they are fed.

Fields have the published names. An unknown key or an unsupported value is an error that names the key: a model must
never be loaded in part.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import attrs

from duplex.checkpoints.conditioning import ConditionerConfig, FuserConfig, read_conditioners, read_fuser
from duplex.checkpoints.mimi_config import MAX_LAYERS, MAX_STREAMS
from duplex.checkpoints.validation import (
    LARGEST_INTEGER,
    StrictConfig,
    in_range,
    integers,
    positive_int,
    positive_number,
    strict_type,
    supported,
)
from duplex.errors import ConfigError
from duplex.options import ModelKind

__all__ = ["LanguageModelConfig"]

MAX_DEPTH_LAYERS = 64
"""There is one of each for every weight set."""
MAX_DELAY = 1024
"""Frames: over a minute."""
MAX_HEADS = 64
"""Extra heads beside the text's, and classes of each."""
MOSHI_7B_DELAYS = (0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1)
DEFAULTS: Mapping[str, Mapping[str, Any]] = {"personaplex": {"dep_q": 16}}
"""What a kind's configurations leave out and mean otherwise than Moshi 7B."""


def _small_integer(default: int, most: int) -> Any:
    return attrs.field(default=default, validator=[strict_type(int), in_range(0, most)])


def _optional_integers(*, most: int, length: int) -> Any:
    """Return a field for ``None``, a whole number, or a list of them; kept as ``None`` or a tuple."""

    def convert(value: Any, field: "attrs.Attribute[Any]") -> tuple[int, ...] | None:
        if value is None:
            return None
        items: list[Any] = list(cast("list[Any]", value)) if isinstance(value, list | tuple) else [value]
        if not 1 <= len(items) <= length or not all(type(item) is int and 0 <= item <= most for item in items):
            raise ConfigError(f"'{field.name}' wants null, or 1 to {length} whole numbers from 0 to {most}")
        return tuple(int(item) for item in items)

    converter: Any = attrs.Converter(convert, takes_field=True)
    return attrs.field(default=None, converter=converter)


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
        }
    )

    model_type: ModelKind = supported("moshi", "personaplex", "stt", "hibiki", "tts")  # noqa: RUF009 -- a field
    dim: int = positive_int(4096)
    num_heads: int = positive_int(32)
    num_layers: int = positive_int(32, most=MAX_LAYERS)
    hidden_scale: float = positive_number(4.125, most=1024)
    context: int = positive_int(3000)
    max_period: float = positive_number(10000)
    text_card: int = positive_int(32000)
    text_card_out: int | None = attrs.field(default=None)
    card: int = positive_int(2048)
    n_q: int = positive_int(16, most=MAX_STREAMS)
    dep_q: int = _small_integer(8, MAX_STREAMS)
    delays: tuple[int, ...] = integers(MOSHI_7B_DELAYS, most=MAX_DELAY, length=1 + MAX_STREAMS)
    existing_text_padding_id: int = attrs.field(default=3, validator=strict_type(int))
    existing_text_end_padding_id: int = attrs.field(default=0, validator=strict_type(int))
    kv_repeat: int = positive_int(1, most=1024)
    positional_embedding: str = supported("rope", "rope_concat")
    causal: bool = supported(True)
    layer_scale: float | None = supported(None)
    gating: str = supported("silu")
    norm: str = supported("rms_norm_f32")
    cross_attention: bool = supported(False, True)
    conditioners: dict[str, ConditionerConfig] = attrs.Factory(dict[str, ConditionerConfig])
    fuser: FuserConfig = attrs.Factory(FuserConfig)
    demux_second_stream: bool = supported(False, True)
    extra_heads_num_heads: int = _small_integer(0, MAX_HEADS)
    extra_heads_dim: int = positive_int(6, most=MAX_HEADS)
    quantize: bool = supported(False, True)
    lora: bool = supported(False)
    depformer_dim: int = positive_int(1024)
    depformer_dim_feedforward: tuple[int, ...] | None = _optional_integers(most=LARGEST_INTEGER, length=MAX_STREAMS)
    depformer_num_heads: int = positive_int(16)
    depformer_num_layers: int = positive_int(6, most=MAX_DEPTH_LAYERS)
    depformer_kv_repeat: int | None = attrs.field(default=None)
    depformer_norm: str | None = supported(None, "layer_norm")
    depformer_weights_per_step_schedule: tuple[int, ...] | None = _optional_integers(
        most=MAX_STREAMS - 1, length=MAX_STREAMS
    )
    depformer_low_rank_embeddings: int | None = attrs.field(default=None)
    depformer_layer_scale: float | None = supported(None)
    depformer_multi_linear: bool = supported(True)
    depformer_gating: str = supported("silu")
    depformer_pos_emb: str = supported("none")
    depformer_weights_per_step: bool = supported(True)

    @property
    def agent_streams(self) -> int:
        """Number of the agent's audio streams.

        PersonaPlex's depth transformer was trained to predict the user's streams too; these are inputs only.
        """
        return self.n_q // 2 if self.model_type == "personaplex" else self.dep_q

    @property
    def user_streams(self) -> int:
        """Number of the user's audio streams; a model of speech synthesis has none."""
        return self.n_q - self.agent_streams

    @property
    def codebooks(self) -> int:
        """Number of the codec's codebooks that the model uses."""
        return max(self.agent_streams, self.user_streams)

    @property
    def text_choices(self) -> int:
        """Number of text tokens that the model chooses from; the others are only fed to it."""
        return self.text_card_out or self.text_card

    @property
    def feedforward(self) -> int:
        """Hidden dimension of the temporal transformer's gated feed-forward layers."""
        return gated_hidden_dim(int(self.hidden_scale * self.dim), self.dim)

    @property
    def depth_weight_sets(self) -> tuple[int, ...]:
        """The number of each codebook's weights of the depth transformer: those of its own, unless scheduled."""
        return self.depformer_weights_per_step_schedule or tuple(range(self.dep_q))

    @property
    def depth_feedforwards(self) -> tuple[int, ...]:
        """Hidden dimension of the depth transformer's gated feed-forward layers, for each set of weights."""
        sets = max(self.depth_weight_sets, default=-1) + 1
        hidden = [gated_hidden_dim(width, self.depformer_dim) for width in self._depth_widths]
        return tuple(hidden * sets if len(hidden) == 1 else hidden)

    @property
    def _depth_widths(self) -> tuple[int, ...]:
        return self.depformer_dim_feedforward or (int(self.hidden_scale * self.depformer_dim),)

    @property
    def depth_kv_repeat(self) -> int:
        """How many query heads of the depth transformer share a key and a value."""
        return self.depformer_kv_repeat or self.kv_repeat

    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint's fingerprint covers: keys that came later only where they say something."""
        values = attrs.asdict(self)
        for name in ("model_type", "depformer_kv_repeat", "extra_heads_dim"):
            if values[name] == getattr(attrs.fields(type(self)), name).default:
                del values[name]
        for name in ("conditioners", "fuser"):
            values[name] = values[name] if self.conditioners else None
        widths = self._depth_widths
        values["depformer_dim_feedforward"] = list(widths) if len(widths) > 1 else sum(widths)
        return values

    def check(self, where: str) -> None:
        """Check that the values agree with each other.

        :raises ConfigError: naming the key that does not fit
        """
        sets, widths = set(self.depth_weight_sets), self._depth_widths
        fits = {
            "dep_q": self._dep_q_fits(),
            "n_q": self.codebooks >= 2,  # noqa: PLR2004 -- Mimi's semantic codebook and at least one acoustic
            "delays": len(self.delays) == self.n_q + 1,
            "num_heads": self.dim % (2 * self.num_heads) == 0,
            "kv_repeat": self.num_heads % self.kv_repeat == 0,
            "depformer_num_heads": self.depformer_dim % self.depformer_num_heads == 0,
            "depformer_kv_repeat": self.depformer_num_heads % self.depth_kv_repeat == 0,
            "depformer_weights_per_step_schedule": len(self.depth_weight_sets) == self.dep_q
            and sets == set(range(len(sets))),
            "depformer_dim_feedforward": len(widths) in (1, len(sets)) and min(widths) >= 1,
            "cross_attention": self.cross_attention or not self.fuser.cross,
            "existing_text_padding_id": 0 <= self.existing_text_padding_id < self.text_choices,
            "existing_text_end_padding_id": 0 <= self.existing_text_end_padding_id < self.text_choices,
        }
        for key, good in fits.items():
            if not good:
                raise ConfigError(f"{where}: '{key}' does not fit the rest of the model's configuration")

    def _dep_q_fits(self) -> bool:
        """Whether the depth transformer covers the streams that this kind of model speaks."""
        fits: dict[ModelKind, bool] = {
            "stt": self.dep_q == 0,
            "tts": self.dep_q == self.n_q,
            "personaplex": self.n_q // 2 <= self.dep_q <= self.n_q and self.n_q % 2 == 0,
        }
        return fits.get(self.model_type, self.dep_q < self.n_q)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any], *, where: str) -> "LanguageModelConfig":
        """Validate the language model's keys of ``config.json``.

        :raises ConfigError: naming the key that is invalid or unsupported
        """
        values: dict[str, Any] = {**mapping, "model_type": mapping.get("model_type") or "moshi"}
        values = {**DEFAULTS.get(str(values["model_type"]), {}), **values}
        values["conditioners"] = read_conditioners(mapping.get("conditioners"), where=where)
        values["fuser"] = read_fuser(mapping.get("fuser"), values["conditioners"], where=where)
        config = super().from_dict(values, where=where)
        config.check(where)
        return config


def gated_hidden_dim(dim_feedforward: int, dim: int) -> int:
    """Return the hidden dimension of a gated feed-forward layer, by the published models' rule.

    Two thirds of the ungated dimension keep the parameter count; exactly ``4 * dim`` becomes ``21 / 8 * dim``.
    """
    return (21 * dim) // 8 if dim_feedforward == 4 * dim else (2 * dim_feedforward) // 3
