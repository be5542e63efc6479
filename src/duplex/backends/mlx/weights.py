"""Weights from published safetensors files into modules: checked, converted or quantized one tensor at a time.

Files of torch's layout and of MLX's are read, the latter also quantized (see
:mod:`duplex.checkpoints.weight_names`). Nothing is read from a file before its tensor's turn has come, so no second
copy of the model is ever in memory.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import mlx.core as mx

from duplex.backends.mlx.adapter import AdapterTensors
from duplex.backends.mlx.arrays import evaluate, named_modules, parameters
from duplex.backends.mlx.linear import Linear, Matrix, Packing
from duplex.backends.mlx.module import Module
from duplex.backends.mlx.stored import Stored
from duplex.checkpoints.adapters import Adapter
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.weight_names import TensorBlock, check_names, detect_layout, mlx_tensor_blocks
from duplex.errors import UsageError, WeightsError

__all__ = ["CONDITIONS", "PACKINGS", "load_language_model_weights", "load_mimi_weights", "quantized"]

PACKINGS = {"int4": Packing(bits=4, group=32), "int8": Packing(bits=8, group=64)}
"""How the published files are quantized, and what ``quantize`` means."""

CONDITIONS = "condition_provider."
"""Prefix of the names of what computes conditions, which it does in float32, whatever the model computes in."""


def load_mimi_weights(mimi: Module, path: Path, unused: Any) -> None:
    """Fill Mimi from its published file, in float32; names that match ``unused`` may be in the file besides.

    :raises WeightsError: if the file is damaged, or a tensor is missing, unknown, or of another shape or kind
    """
    stored = Stored(path, codec=True)
    wanted = {
        name.replace(".codebook.", "._codebook.").replace(".in_proj.weight", ".in_proj_weight"): (name, array.shape)
        for name, array in parameters(mimi)
    }
    check_names(path, stored.names, wanted, unused)
    for published, (name, shape) in wanted.items():
        _put(mimi, name, stored.read(published, shape).astype(mx.float32))


def load_language_model_weights(
    model: Module,
    config: LanguageModelConfig,
    path: Path,
    *,
    dtype: mx.Dtype,
    packing: Packing | None,
    adapter: Adapter | None = None,
) -> None:
    """Fill a language model from a published file of either layout; quantize it if ``packing`` says so.

    An ``adapter`` is added to the weights before.

    :raises WeightsError: if the file is damaged, or a tensor is missing, unknown, or of another shape or kind
    :raises UsageError: if it cannot be quantized as asked
    """
    stored, changes = Stored(path), AdapterTensors(adapter, config)
    if detect_layout(stored.names) == "torch":
        _load_torch_layout(model, mlx_tensor_blocks(config), stored, dtype, packing, changes)
        return
    found = _packing_of(model, stored)
    if found is not None and packing not in (None, found):
        raise UsageError(f"{path} is quantized to {found.bits} bit already; leave `quantize` out")
    if found is None and packing is not None:
        pieces = {name: TensorBlock(name) for name, _ in parameters(model)}
        _load_torch_layout(model, pieces, stored, dtype, packing, changes)
        return
    if found is not None:
        _make_room(model, found, {name.removesuffix(".scales") for name in stored.names if name.endswith(".scales")})
    wanted, fine = dict(parameters(model)), _finely_scaled(model)
    check_names(path, stored.names, wanted)
    for name, array in wanted.items():
        value = stored.read(name, array.shape, packed=array.dtype == mx.uint32)
        whole, _, last = name.rpartition(".")
        kind = mx.float32 if last in ("scales", "biases") and f"{whole}.weight" in fine else kind_of(name, dtype)
        whole_number = value.dtype == mx.uint32
        value = value if whole_number else changes.adapted(name, value.astype(kind))
        held = _held(model, name)
        if held is not array and not bool(mx.array_equal(held, value).item()):  # another codebook's, put there before
            raise WeightsError(
                f"{path}: '{name}' is not what another codebook has, with which it shares its weights "
                "(depformer_weights_per_step_schedule); the file does not belong to this configuration"
            )
        _put(model, name, value)


def quantized(weight: mx.array, packing: Packing) -> tuple[mx.array, mx.array, mx.array]:
    """Quantize ``[rows, columns]`` as the published files are: from bfloat16. Return weight, scales and biases."""
    packed: Any = mx.quantize(weight.astype(mx.bfloat16), packing.group, packing.bits)
    return packed


def _load_torch_layout(
    model: Module,
    pieces: dict[str, TensorBlock],
    stored: Stored,
    dtype: mx.Dtype,
    packing: Packing | None,
    changes: AdapterTensors,
) -> None:
    shapes = {name: array.shape for name, array in parameters(model)}
    check_names(stored.path, stored.names, {piece.name for piece in pieces.values()})
    if packing is not None:
        fitting = {
            name
            for name, matrix in _matrices(model)
            if matrix.columns % packing.group == 0 and not name.startswith(CONDITIONS)
        }
        if not fitting:
            raise UsageError(
                f"no weight of {stored.path} has rows of a multiple of {packing.group}, so it cannot be quantized to "
                f"{packing.bits} bit; leave `quantize` out"
            )
        _make_room(model, packing, fitting)
    together: dict[str, list[str]] = defaultdict(list)
    for name, piece in pieces.items():
        together[piece.name].append(name)
    packed = {f"{name}.weight" for name, matrix in _matrices(model) if matrix.packing is not None}
    fine = _finely_scaled(model)
    for source, names in together.items():
        rows, *rest = shapes[names[0]]
        if source.endswith(".alpha"):
            whole = stored.read(source, (1, 1, rows))[0, 0]
        else:
            whole = stored.read(source, (rows * pieces[names[0]].of, *rest))
        for name in names:
            part = whole[pieces[name].index * rows :][:rows] if pieces[name].of > 1 else whole
            part = changes.adapted(name, part.astype(kind_of(name, dtype)))
            if packing is None or name not in packed:
                _put(model, name, part)
                continue
            weight, scales, biases = quantized(part, packing)
            _put(model, name, weight)
            kind = mx.float32 if name in fine else dtype
            _put(model, name.replace(".weight", ".scales"), scales.astype(kind))
            _put(model, name.replace(".weight", ".biases"), biases.astype(kind))


def kind_of(name: str, dtype: mx.Dtype) -> mx.Dtype:
    """Return the type of a weight of this name in a model of ``dtype``."""
    return mx.float32 if name.startswith(CONDITIONS) else dtype


def _finely_scaled(model: Module) -> set[str]:
    """Return the weights whose scales are float32 whatever the model computes in.

    MLX's product with quantized weights adds up in the scales' type, on a CPU in bfloat16 too: it is then off by 4 to
    6 %, several times what 8 bits are.
    """
    if mx.default_device() != mx.Device(mx.cpu):
        return set()
    return {f"{name}.weight" for name, matrix in _matrices(model) if isinstance(matrix, Linear)}


def _packing_of(model: Module, stored: Stored) -> Packing | None:
    """Return how a file of MLX's layout is quantized.

    :raises WeightsError: if it is so in a way that is not published
    """
    for name, matrix in _matrices(model):
        scales, weight = stored.shape(f"{name}.scales"), stored.shape(f"{name}.weight")
        if scales is None or weight is None:
            continue
        columns = matrix.columns
        if len(weight) != 2 or len(scales) != 2 or not scales[1] or columns % scales[1]:  # noqa: PLR2004
            raise WeightsError(f"{stored.path}: '{name}.scales' is {list(scales)}, which does not fit its weight")
        found = Packing(bits=weight[1] * 32 // columns, group=columns // scales[1])
        if found not in PACKINGS.values():
            known = " and ".join(f"{each.bits} bit in groups of {each.group}" for each in PACKINGS.values())
            raise WeightsError(
                f"{stored.path} is quantized to {found.bits} bit in groups of {found.group}; {known} are run. Quantize "
                f"the original weights anew, with `duplex convert`"
            )
        return found
    return None


def _make_room(model: Module, packing: Packing, names: set[str]) -> None:
    """Make room for quantized weights in the matrices of these names."""
    for name, matrix in _matrices(model):
        if name in names:
            matrix.quantize(packing)


def _matrices(model: Module) -> list[tuple[str, Matrix]]:
    return [(name, module) for name, module in named_modules(model) if isinstance(module, Matrix)]


def _held(model: Module, name: str) -> mx.array:
    """Return what is in a tensor's place."""
    place: Any = model
    for part in name.split("."):
        place = place[int(part) if part.isdecimal() else part]
    return place


def _put(model: Module, name: str, value: mx.array) -> None:
    """Put a tensor where it belongs, and compute it: what it was made of is let go of."""
    evaluate(value)
    *path, last = name.split(".")
    place: Any = model
    for part in path:
        place = place[int(part) if part.isdecimal() else part]
    place[last] = value
