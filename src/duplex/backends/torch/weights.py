"""Weights from published safetensors files into modules: memory-mapped, checked, in the wanted dtype.

Every tensor is mapped from the file and converted on its own, so no second copy of the model is ever in memory; where
dtype and device are the file's own, the mapped pages themselves are used. Published files spell attention projections
in two ways (one stacked ``in_proj_weight``, or ``in_projs.N.weight`` a step), and 8-bit files hold each linear as int8
``weight`` with a float32 ``weight_scb``: value = weight x scb / 127, row by row.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from duplex.errors import WeightsError

__all__ = ["load_weights"]

_STEPWISE = re.compile(r"\.(in|out)_projs\.(\d+)\.weight$")
_SCALES = "_scb"
_INT8_RANGE = 127


def load_weights(
    module: nn.Module,
    path: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    published: Callable[[str], str] = str,
    unused: re.Pattern[str] | None = None,
) -> None:
    """Fill ``module``, built on the meta device, from a safetensors file.

    ``published`` turns a name of ours into the file's; names that match ``unused`` may be in the file besides.

    :raises WeightsError: if the file is damaged, or a tensor is missing, unknown or of another shape
    """
    try:
        opened: Any = safe_open(path, framework="pt")
        with opened as file:
            stored = _collect(file.keys())
            wanted = {published(name): (name, tensor) for name, tensor in module.state_dict().items()}
            _check_names(path, set(stored), set(wanted), unused)
            loaded = {
                ours: _read(file, path, name, stored[name], tensor.shape).to(device=device, dtype=dtype)
                for name, (ours, tensor) in wanted.items()
            }
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file ({error}); download it again") from error
    module.load_state_dict(loaded, assign=True)
    module.requires_grad_(requires_grad=False).eval()


def _collect(names: Iterable[str]) -> dict[str, list[str]]:
    """Map each canonical name to the names of its parts in the file, in order."""
    parts: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        if name.endswith(_SCALES):
            continue
        match = _STEPWISE.search(name)
        if match is None:
            parts[name.replace(".in_proj.weight", ".in_proj_weight")].append((0, name))
        else:
            last = "in_proj_weight" if match[1] == "in" else "out_proj.weight"
            parts[f"{name[: match.start()]}.{last}"].append((int(match[2]), name))
    return {canonical: [name for _, name in sorted(found)] for canonical, found in parts.items()}


def _check_names(path: Path, stored: set[str], wanted: set[str], unused: re.Pattern[str] | None) -> None:
    for kind, names in (("lacks", wanted - stored), ("has the unknown", stored - wanted)):
        if kind != "lacks" and unused is not None:
            names = {name for name in names if not unused.search(name)}  # noqa: PLW2901 -- the same names, fewer
        if names:
            first, others = min(names), f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise WeightsError(
                f"{path} {kind} tensor '{first}'{others}; the file does not belong to this configuration"
            )


def _read(file: Any, path: Path, name: str, parts: list[str], shape: torch.Size) -> Tensor:
    """Return a tensor of the file, its parts joined, dequantized if it is 8 bit."""
    tensors = [_dequantize(file, part) for part in parts]
    tensor = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
    if tensor.shape != shape:
        found, expected = list(tensor.shape), list(shape)
        raise WeightsError(f"{path}: tensor '{name}' is {found} but the configuration asks for {expected}")
    return tensor


def _dequantize(file: Any, name: str) -> Tensor:
    tensor: Tensor = file.get_tensor(name)
    if tensor.dtype != torch.int8:
        return tensor
    try:
        scales: Tensor = file.get_tensor(name + _SCALES)
    except SafetensorError:
        raise WeightsError(
            f"8-bit tensor '{name}' has no '{name + _SCALES}' beside it; download the file again"
        ) from None
    return tensor.float() * (scales.float() / _INT8_RANGE)[:, None]
