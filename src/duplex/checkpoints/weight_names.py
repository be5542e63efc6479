"""The names of a model's tensors, in the layouts in which weights are published.

Torch's layout is the canonical one here. Its attention projections have several names: stacked (``in_proj_weight``),
as ``in_proj.weight``, or one per step (``in_projs.N.weight``), and its depth transformer stacks the projections of all
codebooks in the rows of one tensor. MLX's layout has a separate slice for each codebook, norms included, and splits
quantized tensors in three: packed ``weight``, ``scales`` and ``biases``. The layout of Hugging Face transformers, and
that of the programs in Rust, are read as torch's, by the tables in :mod:`duplex.checkpoints.transformers_names` and
:mod:`duplex.checkpoints.rust_names`.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.checkpoints.rust_names import published_name
from duplex.checkpoints.transformers_names import Slice, half_of, is_of_transformers, transformers_slices
from duplex.checkpoints.transformers_section import AS_PUBLISHED
from duplex.checkpoints.weights_file import Header, TensorInfo, sizes_of
from duplex.errors import WeightsError

__all__ = [
    "SCALES",
    "UNSPLIT",
    "TensorBlock",
    "WeightsLayout",
    "canonical_name",
    "check_names",
    "checked_half",
    "codec_projection_rows",
    "detect_layout",
    "mlx_tensor_blocks",
    "projection_rows",
    "stored_parts",
]

WeightsLayout = Literal["torch", "mlx"]
UNSPLIT = -1
"""The index of a tensor that is not split."""
_STEPWISE = re.compile(r"\.(in|out)_projs\.(\d+)\.weight$")
_OF_MLX = re.compile(r"^(audio_embs\.\d+|depformer\.slices\.\d+)\.")

SCALES = "_scb"
"""What the scales of an 8-bit tensor are called, after it."""
_CROSS = ("cross_attention.out_proj.weight", "norm_cross.weight", "norm_cross.bias")


@attrs.frozen
class TensorBlock:
    """A tensor of torch's layout, or block ``index`` of ``of`` equal blocks of its rows."""

    name: str
    index: int = 0
    of: int = 1


def detect_layout(names: Iterable[str]) -> WeightsLayout:
    """Return the layout of a language model's weights, from the names of its tensors."""
    return "mlx" if any(_OF_MLX.match(name) for name in names) else "torch"


def canonical_name(name: str) -> tuple[str, int]:
    """Return the canonical name of a tensor of torch's layout, and the index of this part of it."""
    match = _STEPWISE.search(name)
    if match is None:
        return name.replace(".in_proj.weight", ".in_proj_weight"), UNSPLIT
    last = "in_proj_weight" if match[1] == "in" else "out_proj.weight"
    return f"{name[: match.start()]}.{last}", int(match[2])


def stored_parts(tensors: Mapping[str, TensorInfo], where: str, *, codec: bool) -> dict[str, list[Slice]]:
    """Return the canonical names of a file's tensors of any layout, each with what it is made of, row after row.

    Of a file that holds a model and its codec, those of one are returned. Scales of 8-bit tensors have no names of
    their own.

    :raises WeightsError: if the file has a tensor twice, in two spellings
    """
    if is_of_transformers(tensors):
        half = half_of(tensors)[codec]
        return transformers_slices({name: tensor for name, tensor in tensors.items() if name in half})
    split = detect_layout(tensors) == "torch"
    parts: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in sorted(tensors):
        # Scales belong to a tensor; without one they are a tensor that nobody knows.
        if name.endswith(SCALES) and name.removesuffix(SCALES) in tensors:
            continue
        published = published_name(name)
        if published is not None:
            canonical, index = canonical_name(published) if split else (name, UNSPLIT)
            parts[canonical].append((index, name))
    for found in parts.values():
        found.sort()
        indices = [index for index, _ in found]
        if len(found) > 1 and (UNSPLIT in indices or len(set(indices)) < len(found)):
            raise WeightsError(
                f"{where} has the same tensor as '{found[0][1]}' and as '{found[1][1]}'; download it again"
            )
    return {name: [Slice(part) for _, part in found] for name, found in parts.items()}


def checked_half(
    header: Header, where: str, model: LanguageModelConfig | None, mimi: MimiConfig, *, codec: bool
) -> Header:
    """Return the tensors of a file that are the model's or the ``codec``'s, if it is of transformers' layout all else.

    :raises WeightsError: if it is, and the configuration is not
    """
    if not is_of_transformers(header):
        return header
    turned = mimi.transformer.positional_embedding if codec else model and model.positional_embedding
    if turned == "rope":
        raise WeightsError(
            f"{where} has the tensors' names of Hugging Face transformers, and its config.json is not theirs; copy the "
            f"config.json that belongs to it, or {AS_PUBLISHED}"
        )
    half = half_of(header)[codec]
    tensors = {name: tensor for name, tensor in header.items() if name in half}
    return Header(tensors, header.metadata, sizes_of(tensors.values()))


def check_names(
    path: Path, found: Collection[str], wanted: Collection[str], unused: re.Pattern[str] | None = None
) -> None:
    """Check that a file has all expected tensors, and no others except those that match ``unused``.

    :raises WeightsError: naming a tensor that is missing or unexpected
    """
    unknown = {name for name in set(found) - set(wanted) if unused is None or not unused.search(name)}
    for kind, names in (("lacks", set(wanted) - set(found)), ("has the unknown", unknown)):
        if names:
            first, others = min(names), f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise WeightsError(
                f"{path} {kind} tensor '{first}'{others}; the file does not belong to this configuration"
            )


def mlx_tensor_blocks(config: LanguageModelConfig) -> dict[str, TensorBlock]:
    """Return the block of torch's layout that each tensor of MLX's comes from. Norms are ``[1, 1, dim]`` in torch's."""
    pieces = {
        "text_emb.weight": TensorBlock("text_emb.weight"),
        "text_linear.weight": TensorBlock("text_linear.weight"),
        "out_norm.weight": TensorBlock("out_norm.alpha"),
    }
    pieces |= {f"audio_embs.{stream}.weight": TensorBlock(f"emb.{stream}.weight") for stream in range(config.n_q)}
    if config.demux_second_stream:
        pieces |= _same(*(f"text_emb.{name}.weight" for name in ("out1", "out2")))
    for layer in range(config.num_layers):
        name = f"transformer.layers.{layer}"
        pieces |= _layer(name, name, "gating")
        if config.cross_attention:
            pieces |= _same(*(f"{name}.{last}" for last in _CROSS))
            pieces[f"{name}.cross_attention.in_proj.weight"] = TensorBlock(f"{name}.cross_attention.in_proj_weight")
    for codebook in range(config.dep_q):
        pieces |= _depth_slice(config, codebook)
    pieces |= _same(*(f"extra_heads.{head}.weight" for head in range(config.extra_heads_num_heads)))
    for name, conditioner in config.conditioners.items():
        parts = ["output_proj.weight", "learnt_padding"] + ["embed.weight"] * (conditioner.kind == "lut")
        pieces |= _same(*(f"condition_provider.conditioners.{name}.{part}" for part in parts))
    return pieces


def _depth_slice(config: LanguageModelConfig, codebook: int) -> dict[str, TensorBlock]:
    """Return the blocks of one codebook's slice; slices of the same weight set have the same ones."""
    ours, weights, sets = f"depformer.slices.{codebook}", config.depth_weight_sets[codebook], config.depth_feedforwards
    embedding = f"depformer_emb.{codebook - 1}" if codebook else "depformer_text_emb"
    pieces = {
        f"{ours}.emb.weight": TensorBlock(f"{embedding}.weight"),
        f"{ours}.linear_in.weight": TensorBlock(f"depformer_in.{weights}.weight"),
        f"{ours}.linear_out.weight": TensorBlock(f"linears.{codebook}.weight"),
    }
    widened = ["low_rank"] if config.depformer_low_rank_embeddings else []
    widened += ["out1", "out2"] if config.demux_second_stream and not codebook else []
    pieces |= {f"{ours}.emb.{name}.weight": TensorBlock(f"{embedding}.{name}.weight") for name in widened}
    if config.depformer_norm:
        named = ("weight", "bias")
        pieces |= {f"{ours}.norm.{name}": TensorBlock(f"depformer_norms.{codebook}.{name}") for name in named}
    for layer in range(config.depformer_num_layers):
        theirs = f"depformer.layers.{layer}"
        pieces |= _layer(f"{ours}.transformer.layers.{layer}", theirs, f"gating.{weights}", weights, len(sets))
    return pieces


def _same(*names: str) -> dict[str, TensorBlock]:
    """Return the blocks of tensors that have the same names in both layouts."""
    return {name: TensorBlock(name) for name in names}


def projection_rows(config: LanguageModelConfig, name: str) -> NDArray[np.int64] | None:
    """Return which rows of a published ``in_proj_weight`` are ours, in our order, or ``None`` if it is the same.

    In ours the pairs that RoPE turns are neighbours; published ones may have the first half of a head turned with the
    second (``rope_concat``). Where heads share keys and values, ours of the temporal transformer do so too
    (``kv_repeat``); those of the depth transformer are taken as often as they are used. ``name`` is the tensor's
    canonical name.
    """
    if not name.endswith("self_attn.in_proj_weight"):
        return None
    if not name.startswith("depformer."):
        turned = config.positional_embedding == "rope_concat"
        return turned_rows(config.dim, config.num_heads, config.num_heads // config.kv_repeat) if turned else None
    dim, heads, repeat = config.depformer_dim, config.depformer_num_heads, config.depth_kv_repeat
    if repeat == 1:
        return None
    width, shared = dim // heads, dim // repeat
    within, head = np.arange(width), np.arange(heads)[:, None]
    blocks = [np.arange(dim), *(start + head // repeat * width + within for start in (dim, dim + shared))]
    rows = np.concatenate([block.ravel() for block in blocks])
    return np.concatenate([part * (dim + 2 * shared) + rows for part in range(len(config.depth_feedforwards))])


def codec_projection_rows(config: MimiConfig, name: str) -> NDArray[np.int64] | None:
    """Return which rows of a tensor of the codec's are ours, in our order, as :func:`projection_rows` does."""
    shape = config.transformer
    if shape.positional_embedding == "rope" or not name.endswith("self_attn.in_proj_weight"):
        return None
    return turned_rows(shape.d_model, shape.num_heads, shape.num_heads)


def turned_rows(dim: int, heads: int, shared: int) -> NDArray[np.int64]:
    """Return the rows of queries, of keys and of values, whose halves of heads become neighbours in the first two.

    There are ``heads`` heads of queries, and ``shared`` of keys and of values.
    """
    width = dim // heads
    paired = np.arange(width).reshape(2, -1).T.ravel()
    turned = np.arange(heads + shared)[:, None] * width + paired
    return np.concatenate([turned.ravel(), turned.size + np.arange(shared * width)])


def _layer(ours: str, theirs: str, gating: str, index: int = 0, of: int = 1) -> dict[str, TensorBlock]:
    """Return the blocks of one transformer layer; of its projections, block ``index`` of ``of`` is this slice's."""
    return {
        f"{ours}.norm1.weight": TensorBlock(f"{theirs}.norm1.alpha"),
        f"{ours}.norm2.weight": TensorBlock(f"{theirs}.norm2.alpha"),
        f"{ours}.self_attn.in_proj.weight": TensorBlock(f"{theirs}.self_attn.in_proj_weight", index, of),
        f"{ours}.self_attn.out_proj.weight": TensorBlock(f"{theirs}.self_attn.out_proj.weight", index, of),
        f"{ours}.gating.linear_in.weight": TensorBlock(f"{theirs}.{gating}.linear_in.weight"),
        f"{ours}.gating.linear_out.weight": TensorBlock(f"{theirs}.{gating}.linear_out.weight"),
    }
