"""A language model's weights from either published layout into either, whole or quantized."""

from collections import defaultdict
from pathlib import Path

import mlx.core as mx

from duplex.backends.mlx.adapter import AdapterTensors
from duplex.backends.mlx.arrays import evaluate, save
from duplex.backends.mlx.linear import Packing
from duplex.backends.mlx.stored import Stored
from duplex.backends.mlx.weights import CONDITIONS, quantized
from duplex.checkpoints.adapters import Adapter
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.weight_names import TensorBlock, WeightsLayout, check_names, detect_layout, mlx_tensor_blocks
from duplex.errors import UsageError

__all__ = ["convert_weights"]

_INT8_RANGE = 127


def convert_weights(
    config: LanguageModelConfig,
    source: Path,
    target: Path,
    *,
    layout: WeightsLayout,
    packing: Packing | None,
    adapter: Adapter | None = None,
) -> None:
    """Write the weights of ``source`` to ``target``, in bfloat16 where they are not quantized, with the ``adapter``.

    For MLX, quantized means all matrices, packed by groups; for torch, all linears with 8 bit, a scale for each row.

    :raises WeightsError: if the source is damaged, or does not fit the configuration
    :raises UsageError: if it is quantized already, or cannot be quantized as asked
    """
    stored = Stored(source)
    pieces = mlx_tensor_blocks(config)
    if any(name.endswith(".scales") for name in stored.names):
        raise UsageError(f"{source} is quantized already; convert the original weights")
    found = detect_layout(stored.names)
    wanted = set(pieces) if found == "mlx" else {piece.name for piece in pieces.values()}
    check_names(source, stored.names, wanted)
    changes = AdapterTensors(adapter, config)
    if layout == "mlx":
        written = _to_mlx(stored, pieces, found, packing, changes)
    else:
        written = _to_torch(stored, pieces, found, changes, eight_bit=packing is not None)
    save(target, written, {"format": "mlx" if layout == "mlx" else "pt"})


def _to_mlx(
    stored: Stored,
    pieces: dict[str, TensorBlock],
    found: WeightsLayout,
    packing: Packing | None,
    changes: AdapterTensors,
) -> dict[str, mx.array]:
    written: dict[str, mx.array] = {}
    whole: dict[str, mx.array] = {}
    left = defaultdict[str, int](int)
    for piece in pieces.values():
        left[piece.name] += 1
    for name, piece in pieces.items():
        source = name if found == "mlx" else piece.name
        if source not in whole:
            whole[source] = _half(stored, source)
        part = changes.adapted(name, _part(whole[source], name, piece if found == "torch" else TensorBlock(name)))
        left[piece.name] -= 1
        if found == "mlx" or not left[piece.name]:
            del whole[source]
        if packing is None or _stays_whole(name):
            written[name] = mx.contiguous(part)
        elif part.shape[-1] % packing.group:
            raise UsageError(
                f"'{name}' has rows of {part.shape[-1]}, which is no multiple of {packing.group}, so it cannot be "
                f"quantized to {packing.bits} bit; choose another `quantize`, or leave it out"
            )
        else:
            written[name], scales, biases = quantized(part, packing)
            written[name.replace(".weight", ".scales")] = scales
            written[name.replace(".weight", ".biases")] = biases
        evaluate(written[name])
    return written


def _to_torch(
    stored: Stored,
    pieces: dict[str, TensorBlock],
    found: WeightsLayout,
    changes: AdapterTensors,
    *,
    eight_bit: bool,
) -> dict[str, mx.array]:
    parts: dict[str, dict[int, str]] = defaultdict(dict)
    for name, piece in pieces.items():  # slices of one weight set hold copies of it
        parts[piece.name].setdefault(piece.index, name)
    written: dict[str, mx.array] = {}
    for target, blocks in parts.items():
        names = [blocks[index] for index in sorted(blocks)]
        if found == "torch":
            tensor = _half(stored, target)
        elif target.endswith(".alpha"):
            tensor = _half(stored, names[0])[None, None]
        else:
            tensor = mx.concatenate([_half(stored, name) for name in names])
        tensor = changes.changed(TensorBlock(target), tensor)
        if not eight_bit or _stays_whole(target) or _is_embedding(target):
            written[target] = tensor
        else:
            written |= _eight_bit(target, tensor, pieces[names[0]].of)
        evaluate(written)
    return written


def _eight_bit(name: str, tensor: mx.array, steps: int) -> dict[str, mx.array]:
    """Return linears as int8 with a scale for each row; those that are stacked by step, one by one."""
    stacked = {".in_proj_weight": ".in_projs", ".out_proj.weight": ".out_projs"}
    ending = next((ending for ending in stacked if name.endswith(ending)), None)
    named = {name: tensor}
    if ending is not None:
        stem = name.removesuffix(ending) + stacked[ending]
        named = {f"{stem}.{step}.weight": part for step, part in enumerate(mx.split(tensor, steps))}
    written: dict[str, mx.array] = {}
    for spelt, part in named.items():
        scales = mx.abs(part.astype(mx.float32)).max(axis=1)
        factors = _INT8_RANGE / mx.maximum(scales, 2.0**-100)
        written[spelt] = mx.round(part.astype(mx.float32) * factors[:, None]).astype(mx.int8)
        written[f"{spelt}_scb"] = scales
    return written


def _half(stored: Stored, name: str) -> mx.array:
    """Return a tensor in bfloat16, in the shape that it has; what computes conditions as it is."""
    tensor = stored.read(name)
    return tensor if name.startswith(CONDITIONS) else tensor.astype(mx.bfloat16)


def _part(whole: mx.array, name: str, piece: TensorBlock) -> mx.array:
    if _is_norm(name):
        return whole[0, 0] if whole.ndim > 2 else whole  # noqa: PLR2004 -- torch's layout has [1, 1, dim]
    rows = whole.shape[0] // piece.of
    return whole[piece.index * rows :][:rows] if piece.of > 1 else whole


def _is_norm(name: str) -> bool:
    return "norm" in name


def _stays_whole(name: str) -> bool:
    return _is_norm(name) or name.startswith(CONDITIONS)


def _is_embedding(name: str) -> bool:
    return "emb." in name
