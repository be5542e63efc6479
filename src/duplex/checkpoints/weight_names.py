"""The names of a language model's tensors, in the two layouts in which weights are published.

Torch's layout is the canonical one here. Its attention projections have several names: stacked (``in_proj_weight``),
as ``in_proj.weight``, or one per step (``in_projs.N.weight``), and its depth transformer stacks the projections of all
codebooks in the rows of one tensor. MLX's layout has a separate slice for each codebook, norms included, and splits
quantized tensors in three: packed ``weight``, ``scales`` and ``biases``.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.errors import WeightsError

__all__ = [
    "UNSPLIT",
    "TensorBlock",
    "WeightsLayout",
    "canonical_name",
    "check_names",
    "detect_layout",
    "mlx_tensor_blocks",
    "projection_rows",
]

WeightsLayout = Literal["torch", "mlx"]
UNSPLIT = -1
"""The index of a tensor that is not split."""
_STEPWISE = re.compile(r"\.(in|out)_projs\.(\d+)\.weight$")
_OF_TRANSFORMERS = re.compile(r"\.self_attn\.[qkvo]_proj\.")
_OF_MLX = re.compile(r"^(audio_embs\.\d+|depformer\.slices\.\d+)\.")

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


def check_names(
    path: Path, found: Collection[str], wanted: Collection[str], unused: re.Pattern[str] | None = None
) -> None:
    """Check that a file has all expected tensors, and no others except those that match ``unused``.

    :raises WeightsError: naming a tensor that is missing or unexpected
    """
    if any(_OF_TRANSFORMERS.search(name) for name in found):
        raise WeightsError(
            f"{path} has the tensors' names of Hugging Face transformers, which are not read here; give the same model "
            "as its authors published it, such as kyutai/moshika-pytorch-bf16"
        )
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

    Ours has queries, keys and values of as many heads each, whose pairs for RoPE are neighbours. Published ones may
    share keys and values between heads (``kv_repeat``), which are then taken as often as they are used, and have the
    first half of a head paired with the second (``rope_concat``). ``name`` is the tensor's canonical name.
    """
    if not name.endswith("self_attn.in_proj_weight"):
        return None
    if name.startswith("depformer."):
        dim, heads, repeat = config.depformer_dim, config.depformer_num_heads, config.depth_kv_repeat
        sets = len(config.depth_feedforwards)
        concat = False  # the depth transformer has no positions
    else:
        dim, heads, repeat, sets = config.dim, config.num_heads, config.kv_repeat, 1
        concat = config.positional_embedding == "rope_concat"
    if repeat == 1 and not concat:
        return None
    width, shared = dim // heads, dim // repeat
    within = np.arange(width)
    paired = within.reshape(2, -1).T.ravel() if concat else within
    head = np.arange(heads)[:, None]
    blocks = [
        head * width + paired,
        dim + head // repeat * width + paired,
        dim + shared + head // repeat * width + within,
    ]
    rows = np.concatenate([block.ravel() for block in blocks])
    return np.concatenate([part * (dim + 2 * shared) + rows for part in range(sets)])


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
