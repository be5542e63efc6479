"""The names of tensors in files for the programs in Rust: the depth transformer has a slice for each codebook.

They are those of torch's layout but for ``depformer.K.…``, where K is the codebook. Norms, which all slices share, are
in each of them.
"""

import re
from collections.abc import Iterable

__all__ = ["is_of_rust", "published_name"]

_SLICE = re.compile(r"^depformer\.(\d{1,3})\.(.+)$")
_TABLE = (
    (r"^linear_in\.", "depformer_in.{codebook}."),
    (r"^linear_out\.", "linears.{codebook}."),
    (r"^emb\.", "depformer_emb.{before}."),
    (r"^transformer\.(layers\.\d+\.gating)\.", r"depformer.\1.{codebook}."),
    (r"^transformer\.(layers\.\d+\.self_attn)\.in_proj_weight$", r"depformer.\1.in_projs.{codebook}.weight"),
    (r"^transformer\.(layers\.\d+\.self_attn)\.out_proj\.weight$", r"depformer.\1.out_projs.{codebook}.weight"),
    (r"^transformer\.(layers\.\d+\.norm[12]\.)", r"depformer.\1"),
)


def is_of_rust(names: Iterable[str]) -> bool:
    """Return whether tensors have the names that the programs in Rust give them."""
    return any(_SLICE.match(name) for name in names)


def published_name(name: str) -> str | None:
    """Return the name that a tensor has in torch's layout, ``None`` for one that another codebook's slice has too."""
    match = _SLICE.match(name)
    if match is None:
        return name
    codebook, rest = int(match[1]), match[2]
    if codebook and re.match(r"transformer\.layers\.\d+\.norm[12]\.", rest):
        return None
    for theirs, ours in _TABLE:
        rest = re.sub(theirs, ours, rest)
    text = rest.replace("depformer_emb.{before}", "depformer_text_emb") if not codebook else rest
    return text.replace("{codebook}", str(codebook)).replace("{before}", str(codebook - 1))
