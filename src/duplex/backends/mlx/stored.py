"""The tensors of a safetensors file under their canonical names: parts joined, torch's 8-bit ones dequantized."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import mlx.core as mx

from duplex.checkpoints.weight_names import UNSPLIT, canonical_name, detect_layout
from duplex.checkpoints.weights_file import read_header
from duplex.errors import WeightsError

__all__ = ["Stored"]

_SCALES = "_scb"
_INT8_RANGE = 127
_FLOATING = {"F32", "F16", "BF16"}


class Stored:
    """An open weights file. Nothing is read before :meth:`read` asks for it, and nothing is kept.

    :raises WeightsError: if the file is damaged, or has a tensor twice, in two spellings
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header = read_header(path)
        try:
            self._arrays: dict[str, mx.array] = _load(path)
        except (RuntimeError, ValueError) as error:
            raise WeightsError(f"{path} is not a readable safetensors file ({error}); download it again") from error
        torch = detect_layout(self._header) == "torch"
        self._parts: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for name in sorted(self._header):
            if not name.endswith(_SCALES) or name.removesuffix(_SCALES) not in self._header:
                canonical, index = canonical_name(name) if torch else (name, UNSPLIT)
                self._parts[canonical].append((index, name))
        for parts in self._parts.values():
            parts.sort()
            indices = [index for index, _ in parts]
            if len(parts) > 1 and (UNSPLIT in indices or len(set(indices)) < len(parts)):
                raise WeightsError(
                    f"{path} has the same tensor as '{parts[0][1]}' and as '{parts[1][1]}'; download it again"
                )

    @property
    def names(self) -> set[str]:
        """The canonical names."""
        return set(self._parts)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor as it is stored, ``None`` if there is no such tensor."""
        return self._header[name].shape if name in self._header else None

    def read(self, name: str, shape: tuple[int, ...] | None = None, *, packed: bool = False) -> mx.array:
        """Return a tensor, its parts joined: floating, or with ``packed`` the words of quantized weights.

        Without a ``shape`` it is as it is.

        :raises WeightsError: if it is not of this shape, or of a type that weights have not
        """
        parts = [self._take(part, packed=packed) for _, part in self._parts[name]]
        columns = parts[0].shape[1:] if shape is None else tuple(shape[1:])
        fits = all(part.shape[1:] == columns for part in parts)
        tensor = mx.concatenate(parts) if len(parts) > 1 and fits else parts[0]
        if not fits or (shape is not None and tensor.shape != tuple(shape)):
            found = " and ".join(str(list(part.shape)) for part in ([tensor] if fits else parts))
            raise WeightsError(
                f"{self.path}: tensor '{name}' is {found} but the configuration asks for {list(shape or [])}"
            )
        return tensor

    def _take(self, name: str, *, packed: bool) -> mx.array:
        kind, scaled = self._header[name].dtype, name + _SCALES in self._header
        if kind == "U32" and packed:
            return self._arrays.pop(name)
        if kind in _FLOATING and not scaled and not packed:
            return self._arrays.pop(name)
        if kind != "I8" or packed:
            what = f"{kind} with scales" if scaled else kind
            raise WeightsError(f"{self.path}: tensor '{name}' is {what}; floating or 8-bit weights are wanted")
        if not scaled:
            raise WeightsError(f"{self.path}: 8-bit tensor '{name}' lacks '{name + _SCALES}'; download the file again")
        shape, scales = self._header[name].shape, self._header[name + _SCALES]
        if len(shape) != 2 or scales.shape != shape[:1] or scales.dtype not in _FLOATING:  # noqa: PLR2004
            raise WeightsError(
                f"{self.path}: '{name + _SCALES}' is {scales.dtype} {list(scales.shape)}, but one floating number for "
                f"each row of {list(shape)} is wanted; download the file again"
            )
        factors = self._arrays.pop(name + _SCALES).astype(mx.float32) / _INT8_RANGE
        return self._arrays.pop(name).astype(mx.float32) * factors[:, None]


def _load(path: Path) -> dict[str, mx.array]:
    loaded: Any = mx.load(str(path), format="safetensors")
    return loaded
