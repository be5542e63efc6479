"""The names of a language model's weights, in the two layouts in which they are published.

Torch's layout is the canonical one here. Its attention projections are spelled in several ways: stacked
(``in_proj_weight``), as ``in_proj.weight``, or one a step (``in_projs.N.weight``), and its depth transformer holds all
codebooks' projections in the rows of one tensor. MLX's layout has a slice of its own for each codebook, norms included,
and quantized tensors in three: packed ``weight``, ``scales`` and ``biases``.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

import attrs

from duplex.checkpoints.config import LanguageModelConfig
from duplex.errors import WeightsError

__all__ = ["WHOLE", "Piece", "WeightsLayout", "check_names", "layout_of", "mlx_pieces", "spelled"]

WeightsLayout = Literal["torch", "mlx"]
WHOLE = -1
"""The index of a tensor that is not in parts."""
_STEPWISE = re.compile(r"\.(in|out)_projs\.(\d+)\.weight$")
_OF_MLX = re.compile(r"^(audio_embs\.\d+|depformer\.slices\.\d+)\.")


@attrs.frozen
class Piece:
    """A tensor of torch's layout, or one of the ``of`` equal blocks of its rows."""

    name: str
    index: int = 0
    of: int = 1


def layout_of(names: Iterable[str]) -> WeightsLayout:
    """Return the layout of a language model's file, by the names of its tensors."""
    return "mlx" if any(_OF_MLX.match(name) for name in names) else "torch"


def spelled(name: str) -> tuple[str, int]:
    """Return the canonical name of a tensor of torch's layout, and which of its parts this is."""
    match = _STEPWISE.search(name)
    if match is None:
        return name.replace(".in_proj.weight", ".in_proj_weight"), WHOLE
    last = "in_proj_weight" if match[1] == "in" else "out_proj.weight"
    return f"{name[: match.start()]}.{last}", int(match[2])


def check_names(
    path: Path, found: Collection[str], wanted: Collection[str], unused: re.Pattern[str] | None = None
) -> None:
    """Check that a file has the tensors that are wanted, and nothing else but what is ``unused``.

    :raises WeightsError: naming a tensor that is missing or unknown
    """
    unknown = {name for name in set(found) - set(wanted) if unused is None or not unused.search(name)}
    for kind, names in (("lacks", set(wanted) - set(found)), ("has the unknown", unknown)):
        if names:
            first, others = min(names), f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise WeightsError(
                f"{path} {kind} tensor '{first}'{others}; the file does not belong to this configuration"
            )


def mlx_pieces(config: LanguageModelConfig) -> dict[str, Piece]:
    """Return what each tensor of MLX's layout is made of in torch's. Norms are ``[1, 1, dim]`` in torch's."""
    pieces = {
        "text_emb.weight": Piece("text_emb.weight"),
        "text_linear.weight": Piece("text_linear.weight"),
        "out_norm.weight": Piece("out_norm.alpha"),
    }
    pieces |= {f"audio_embs.{stream}.weight": Piece(f"emb.{stream}.weight") for stream in range(config.n_q)}
    for layer in range(config.num_layers):
        pieces |= _layer(f"transformer.layers.{layer}", f"transformer.layers.{layer}", "gating")
    for codebook in range(config.dep_q):
        ours = f"depformer.slices.{codebook}"
        embedding = f"depformer_emb.{codebook - 1}" if codebook else "depformer_text_emb"
        pieces |= {
            f"{ours}.emb.weight": Piece(f"{embedding}.weight"),
            f"{ours}.linear_in.weight": Piece(f"depformer_in.{codebook}.weight"),
            f"{ours}.linear_out.weight": Piece(f"linears.{codebook}.weight"),
        }
        for layer in range(config.depformer_num_layers):
            theirs = f"depformer.layers.{layer}"
            pieces |= _layer(f"{ours}.transformer.layers.{layer}", theirs, f"gating.{codebook}", codebook, config.dep_q)
    return pieces


def _layer(ours: str, theirs: str, gating: str, index: int = 0, of: int = 1) -> dict[str, Piece]:
    """Return the pieces of one transformer layer; ``index`` of ``of`` blocks of its projections are this slice's."""
    return {
        f"{ours}.norm1.weight": Piece(f"{theirs}.norm1.alpha"),
        f"{ours}.norm2.weight": Piece(f"{theirs}.norm2.alpha"),
        f"{ours}.self_attn.in_proj.weight": Piece(f"{theirs}.self_attn.in_proj_weight", index, of),
        f"{ours}.self_attn.out_proj.weight": Piece(f"{theirs}.self_attn.out_proj.weight", index, of),
        f"{ours}.gating.linear_in.weight": Piece(f"{theirs}.{gating}.linear_in.weight"),
        f"{ours}.gating.linear_out.weight": Piece(f"{theirs}.{gating}.linear_out.weight"),
    }
