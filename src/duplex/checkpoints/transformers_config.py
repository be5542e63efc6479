"""Configurations in the layout of Hugging Face transformers, read as what the published ones say.

A codec's is flat (``model_type`` mimi); a model's (``MoshiForConditionalGeneration``) holds its codec's and its depth
transformer's within. An unknown key, or a value of what this package does not run, is an error that names the key.
"""

from collections.abc import Mapping
from typing import Any, cast

from duplex.checkpoints.language_model_config import LanguageModelConfig, gated_hidden_dim
from duplex.checkpoints.mimi_config import MimiConfig, SeanetConfig
from duplex.checkpoints.transformers_section import AS_PUBLISHED, Section
from duplex.errors import ConfigError

__all__ = ["codec_config", "is_of_transformers_config", "model_config"]

_KINDS = {"moshi": "MoshiForConditionalGeneration", "mimi": "MimiModel"}
_OWN_KEYS = frozenset({"audio_encoder_config", "depth_decoder_config", "transformers_version"})
_MOSHI_NORM = 1e-8
_MIMI_NORM = 1e-5


def is_of_transformers_config(mapping: Mapping[str, Any]) -> bool:
    """Return whether a configuration was written by transformers: its ``model_type`` is the same word as others'."""
    return mapping.get("architectures") is not None or bool(_OWN_KEYS & mapping.keys())


def codec_config(mapping: Mapping[str, Any], *, where: str) -> MimiConfig:
    """Return the codec that a configuration describes: Mimi's own, or that within a model's.

    :raises ConfigError: naming the key that is invalid or unsupported
    """
    _check_kind(mapping, where)
    if mapping.get("model_type") == "mimi":
        return _mimi(Section(mapping, where))
    return _mimi(Section(mapping, where).section("audio_encoder_config"))


def model_config(mapping: Mapping[str, Any], *, where: str) -> LanguageModelConfig | None:
    """Return the language model that a configuration describes, ``None`` for a codec alone.

    :raises ConfigError: naming the key that is invalid or unsupported
    """
    _check_kind(mapping, where)
    if mapping.get("model_type") == "mimi":
        return None
    whole = Section(mapping, where)
    codec, depth = whole.section("audio_encoder_config"), whole.section("depth_decoder_config")
    dim, streams = whole.integer("hidden_size", 4096), whole.integer("num_codebooks", 8)
    text = whole.integer("vocab_size", 32000)
    card = whole.integer("audio_vocab_size", codec.integer("codebook_size", 2048))
    heads, repeat = whole.heads(dim, 32)
    depth.expect(vocab_size=text, audio_vocab_size=card, num_codebooks=streams, input_size=dim)
    values = {
        "dim": dim,
        "num_heads": heads,
        "kv_repeat": repeat,
        "num_layers": whole.integer("num_hidden_layers", 32),
        "hidden_scale": _feedforward(whole, dim, 22528) / dim,
        "context": whole.integer("sliding_window", 3000),
        "max_period": whole.period(),
        "positional_embedding": "rope_concat",
        "text_card": text,
        "card": card,
        "n_q": 2 * streams,
        "dep_q": streams,
        "delays": [0] + 2 * ([0] + [1] * (streams - 1)),
        **_depth(depth, streams),
    }
    whole.expect(hidden_act="silu", rms_norm_eps=_MOSHI_NORM)
    whole.done()
    depth.done()
    return LanguageModelConfig.from_dict(values, where=where)


def _depth(section: Section, streams: int) -> dict[str, Any]:
    """Return the depth transformer's values. Its window, of a frame's codebooks, must not be shorter than they are."""
    dim = section.integer("hidden_size", 1024)
    heads, repeat = section.heads(dim, 16)
    if section.integer("sliding_window", streams) < streams:
        raise ConfigError(f"{section.where}: 'sliding_window' is less than 'num_codebooks', which is not run here")
    section.expect(hidden_act="silu", rms_norm_eps=_MOSHI_NORM)
    return {
        "depformer_dim": dim,
        "depformer_num_heads": heads,
        "depformer_kv_repeat": repeat,
        "depformer_num_layers": section.integer("num_hidden_layers", 6),
        "depformer_dim_feedforward": int(_feedforward(section, dim, 5632)),
    }


def _feedforward(section: Section, dim: int, default: int) -> float:
    """Return the published width of a gated feed-forward layer: of which two thirds are what there is of each half.

    A half is added, which is cut off again, where the quotient by ``dim`` is rounded down.

    :raises ConfigError: if there is none that leads to these
    """
    hidden, odd = divmod(section.integer("ffn_dim", default), 2)
    for width in (4 * dim, (3 * hidden + 1) // 2, (3 * hidden + 1) // 2 + 1):
        if not odd and gated_hidden_dim(width, dim) == hidden:
            return width if int(width / dim * dim) == width else width + 0.5
    raise ConfigError(f"{section.where}: 'ffn_dim' is {2 * hidden + odd}, which this version cannot run")


def _mimi(section: Section) -> MimiConfig:
    width, code = section.integer("hidden_size", 512), section.integer("vector_quantization_hidden_dimension", 256)
    rate = section.integer("sampling_rate", 24000)
    heads, repeat = section.heads(width, 8)
    if repeat > 1 or section.halved():
        raise ConfigError(
            f"{section.where}: this version runs whole codecs, whose heads have keys and values of their own; "
            f"{AS_PUBLISHED}"
        )
    section.expect(
        attention_bias=False,
        codebook_dim=code,
        hidden_act="gelu",
        norm_eps=_MIMI_NORM,
        normalize=False,
        num_semantic_quantizers=1,
        trim_right_ratio=1.0,
        upsample_groups=width,
        use_conv_shortcut=False,
    )
    seanet = {
        "channels": section.take("audio_channels", 1),
        "dimension": width,
        "n_filters": section.take("num_filters", 64),
        "ratios": section.take("upsampling_ratios", [8, 6, 5, 4]),
        "n_residual_layers": section.take("num_residual_layers", 1),
        "kernel_size": section.take("kernel_size", 7),
        "residual_kernel_size": section.take("residual_kernel_size", 3),
        "last_kernel_size": section.take("last_kernel_size", 3),
        "dilation_base": section.take("dilation_growth_rate", 2),
        "compress": section.take("compress", 2),
        "causal": section.take("use_causal_conv", True),
        "pad_mode": section.take("pad_mode", "constant"),
    }
    quantizer = {
        "dimension": code,
        "n_q": section.take("num_quantizers", 32),
        "bins": section.take("codebook_size", 2048),
        "input_dimension": width,
        "output_dimension": width,
    }
    transformer = {
        "d_model": width,
        "num_heads": heads,
        "num_layers": section.take("num_hidden_layers", 8),
        "dim_feedforward": section.take("intermediate_size", 2048),
        "context": section.take("sliding_window", 250),
        "max_period": section.period(),
        "input_dimension": width,
        "output_dimensions": [width],
        "layer_scale": section.take("layer_scale_initial_scale", 0.01),
        "positional_embedding": "rope_concat",
    }
    hop = SeanetConfig.from_dict(seanet, where=section.where).hop_length
    frame_rate = section.take("frame_rate", section.take("_frame_rate", rate / max(hop, 1) / 2))
    section.done()
    whole = {"sample_rate": rate, "frame_rate": frame_rate}
    whole |= {"seanet": seanet, "quantizer": quantizer, "transformer": transformer}
    return MimiConfig.from_dict(whole, where=section.where)


def _check_kind(mapping: Mapping[str, Any], where: str) -> None:
    """Check that a configuration is of one of the kinds that are read.

    :raises ConfigError: if it is of another
    """
    kind = str(mapping.get("model_type"))
    written: Any = mapping.get("architectures") or []
    names = [str(name) for name in (cast("list[Any]", written) if isinstance(written, list) else [written])]
    if kind not in _KINDS or (names and _KINDS[kind] not in names):
        raise ConfigError(
            f"{where}: this is {', '.join(names)[:200] or kind[:200]} in the layout of Hugging Face transformers, of "
            f"which {' and '.join(_KINDS.values())} are read; {AS_PUBLISHED}"
        )
