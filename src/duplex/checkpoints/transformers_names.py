"""The names of tensors in the layout of Hugging Face transformers, as a table: which parts each published one is of.

There the projections of queries, keys and values are tensors of their own, and the weights of the depth transformer are
stacked by codebook along an axis of their own. The rows of queries and keys lie so that the first half of a head is
turned with the second (``rope_concat``). A model's file holds its codec besides, below ``audio_encoder.``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

import attrs

from duplex.checkpoints.mimi_config import MAX_STREAMS
from duplex.checkpoints.weights_file import TensorInfo

__all__ = ["Slice", "half_of", "is_of_transformers", "transformers_slices"]

_MARK = re.compile(r"\.self_attn\.[qkvo]_proj\.")
_CODEC = re.compile(r"(audio_encoder\.)?((en|de)coder\.layers|(en|de)coder_transformer|(up|down)sample|quantizer)\.")
_QUERY_KEY_VALUE = re.compile(r"\.self_attn\.([qkv])_proj\.")
_LAYERS = (
    (r"\.input_layernorm\.", ".norm1."),
    (r"\.post_attention_layernorm\.", ".norm2."),
    (r"\.self_attn\.[qkv]_proj\.(linear\.)?weight$", ".self_attn.in_proj_weight"),
    (r"\.self_attn\.o_proj\.(linear\.)?weight$", ".self_attn.out_proj.weight"),
)
_MODEL = (
    (r"^embed_tokens\.(\d+)\.", r"emb.\1."),
    (r"^decoder\.lm_head\.", "text_linear."),
    (r"^decoder\.model\.embed_tokens\.", "text_emb."),
    (r"^decoder\.model\.norm\.weight$", "out_norm.alpha"),
    (r"^decoder\.model\.layers\.", "transformer.layers."),
    (r"^depth_decoder\.text_embed_tokens\.", "depformer_text_emb."),
    (r"^depth_decoder\.embed_tokens\.(\d+)\.", r"depformer_emb.\1."),
    (r"^depth_decoder\.input_projections\.", r"depformer_in.{codebook}."),
    (r"^depth_decoder\.lm_heads\.", r"linears.{codebook}."),
    (r"^depth_decoder\.layers\.(\d+)\.mlp\.", r"depformer.layers.\1.mlp.{codebook}."),
    (r"^depth_decoder\.layers\.", "depformer.layers."),
    *_LAYERS,
    (r"\.(norm[12])\.weight$", r".\1.alpha"),
    (r"\.mlp\.((?:\{codebook\}\.)?)fc1\.", r".gating.\1linear_in."),
    (r"\.mlp\.((?:\{codebook\}\.)?)fc2\.", r".gating.\1linear_out."),
)
"""Of a language model: what becomes of a name, one line after the other."""
_MIMI = (
    (r"^audio_encoder\.", ""),
    (r"^(encoder|decoder)\.layers\.", r"\1.model."),
    (r"^(encoder|decoder)_transformer\.layers\.", r"\1_transformer.transformer.layers."),
    (r"^(encoder|decoder)(\.model\..*)\.conv\.", r"\1\2.conv.conv."),
    (r"^downsample\.conv\.", "downsample.conv.conv.conv."),
    (r"^upsample\.conv\.", "upsample.convtr.convtr.convtr."),
    *_LAYERS,
    (r"\.mlp\.fc([12])\.", r".linear\1."),
    (r"\.self_attn_layer_scale\.", ".layer_scale_1."),
    (r"\.mlp_layer_scale\.", ".layer_scale_2."),
    (r"^quantizer\.semantic_residual_vector_quantizer\.", "quantizer.rvq_first."),
    (r"^quantizer\.acoustic_residual_vector_quantizer\.", "quantizer.rvq_rest."),
    (r"^(quantizer\.rvq_\w+)\.layers\.(\d+)\.codebook\.", r"\1.vq.layers.\2._codebook."),
    (r"\._codebook\.embed_sum$", "._codebook.embedding_sum"),
    (r"\._codebook\.initialized$", "._codebook._initialized"),
)
"""Of the codec."""
_OUTER = re.compile(r"decoder\.layers\.(\d{1,4})\.conv\.")
_TRANSPOSED = re.compile(r"^decoder\.model\.(\d+)\.conv\.conv\.")


@attrs.frozen
class Slice:
    """A tensor of a file, or of one with an axis of codebooks the part of one of them."""

    name: str
    codebook: int | None = None


def is_of_transformers(names: Iterable[str]) -> bool:
    """Return whether tensors have the names that transformers gives them."""
    return any(_MARK.search(name) for name in names)


def half_of(names: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return which tensors of a file are the language model's, and which are its codec's."""
    found = set(names)
    codec = {name for name in found if _CODEC.match(name)}
    return found - codec, codec


def transformers_slices(tensors: Mapping[str, TensorInfo]) -> dict[str, list[Slice]]:
    """Return the published names of a file's tensors, each with what it is made of, row after row."""
    ordered: dict[str, list[tuple[tuple[int, int], Slice]]] = {}
    _, codec = half_of(tensors)
    last = str(max((int(match[1]) for match in map(_OUTER.search, codec) if match), default=0))
    for name, tensor in tensors.items():
        if name in codec:
            published = _without_transposed(_renamed(name, _MIMI), last)
            found = [(published, -1)]
        else:
            found = list(_by_codebook(_renamed(name, _MODEL), tensor))
        match = _QUERY_KEY_VALUE.search(name)
        place = "qkv".index(match[1]) if match else 0
        for published, codebook in found:
            part = Slice(name, None if codebook < 0 else codebook)
            ordered.setdefault(published, []).append(((codebook, place), part))
    return {name: [part for _, part in sorted(parts, key=lambda each: each[0])] for name, parts in ordered.items()}


def _renamed(name: str, table: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in table:
        name = re.sub(theirs, ours, name)
    return name


def _without_transposed(name: str, last: str) -> str:
    """Return the published name of a convolution of the decoder: all between the first and the last are transposed."""
    match = _TRANSPOSED.match(name)
    if match is None or match[1] in ("0", last):
        return name
    return name.replace(".conv.conv.", ".convtr.convtr.")


def _by_codebook(name: str, tensor: TensorInfo) -> Iterator[tuple[str, int]]:
    """Yield the names of a tensor's parts, and the codebook of each, -1 for a tensor that is one."""
    stacked = len(tensor.shape) == 3  # noqa: PLR2004 -- codebooks, rows, columns
    if not stacked or tensor.shape[0] > MAX_STREAMS:
        yield name, -1
        return
    for codebook in range(tensor.shape[0]):
        yield name.replace("{codebook}", str(codebook)), codebook
