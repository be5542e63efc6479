"""The tensors of a weights file under their canonical names: parts joined, torch's 8-bit ones dequantized."""

from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx

from duplex.backends.mlx.arrays import from_numpy
from duplex.checkpoints.gguf_file import ENDING, GgufFile
from duplex.checkpoints.stored_weights import read_header, shards
from duplex.checkpoints.transformers_names import Slice
from duplex.checkpoints.weight_names import SCALES, stored_parts
from duplex.errors import WeightsError

__all__ = ["Stored"]

_INT8_RANGE = 127
_FLOATING = {"F32", "F16", "BF16"}


class Stored:
    """An open weights file, or one half of one that holds a model and its codec.

    Nothing is read before :meth:`read` asks for it, and nothing is kept.

    :raises WeightsError: if the file is damaged, or has a tensor twice, in two spellings
    """

    def __init__(self, path: Path, *, codec: bool = False) -> None:
        self.path = path
        self._header = read_header(path)
        self._arrays: dict[str, mx.array] = {}
        self._gguf = GgufFile(path) if path.name.endswith(ENDING) else None
        for shard in () if self._gguf else shards(path):
            try:
                self._arrays |= _load(shard)
            except (RuntimeError, ValueError) as error:
                raise WeightsError(
                    f"{shard} is not a readable safetensors file ({error}); download it again"
                ) from error
        self._parts = stored_parts(self._header, str(path), codec=codec)
        self._uses = Counter(part.name for parts in self._parts.values() for part in parts)

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
        parts = [self._take(part, packed=packed) for part in self._parts[name]]
        if name.endswith(".alpha") and parts[0].ndim == 1:  # a norm that is not published as [1, 1, dim]
            parts = [part[None, None] for part in parts]
        columns = parts[0].shape[1:] if shape is None else tuple(shape[1:])
        fits = all(part.shape[1:] == columns for part in parts)
        tensor = mx.concatenate(parts) if len(parts) > 1 and fits else parts[0]
        if not fits or (shape is not None and tensor.shape != tuple(shape)):
            found = " and ".join(str(list(part.shape)) for part in ([tensor] if fits else parts))
            raise WeightsError(
                f"{self.path}: tensor '{name}' is {found} but the configuration asks for {list(shape or [])}"
            )
        return tensor

    def _take(self, part: Slice, *, packed: bool) -> mx.array:
        name = part.name
        if self._gguf is not None:
            return from_numpy(self._gguf.read(name))
        kind, scaled = self._header[name].dtype, name + SCALES in self._header
        if kind == "U32" and packed:
            return self._arrays.pop(name)
        if kind in _FLOATING and not scaled and not packed:
            self._uses[name] -= 1
            whole = self._arrays[name] if self._uses[name] else self._arrays.pop(name)
            return whole if part.codebook is None else whole[part.codebook]
        if kind != "I8" or packed:
            what = f"{kind} with scales" if scaled else kind
            raise WeightsError(f"{self.path}: tensor '{name}' is {what}; floating or 8-bit weights are wanted")
        if not scaled:
            raise WeightsError(f"{self.path}: 8-bit tensor '{name}' lacks '{name + SCALES}'; download the file again")
        shape, scales = self._header[name].shape, self._header[name + SCALES]
        if len(shape) != 2 or scales.shape != shape[:1] or scales.dtype not in _FLOATING:  # noqa: PLR2004
            raise WeightsError(
                f"{self.path}: '{name + SCALES}' is {scales.dtype} {list(scales.shape)}, but one floating number for "
                f"each row of {list(shape)} is wanted; download the file again"
            )
        factors = self._arrays.pop(name + SCALES).astype(mx.float32) / _INT8_RANGE
        return self._arrays.pop(name).astype(mx.float32) * factors[:, None]


def _load(path: Path) -> dict[str, mx.array]:
    loaded: Any = mx.load(str(path), format="safetensors")
    return loaded
