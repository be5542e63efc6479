"""GGUF files, as published for the programs in Rust: blocks of few bits, each with a scale of its own.

A block is a stretch of a row, so that no row has one scale for all of it, as the 8-bit weights of this package have:
tensors are therefore read as the float32 numbers that they stand for. ``quantize`` rounds them anew.
"""

import hashlib
import importlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.weights_file import MOST_DIMENSIONS, Header, TensorInfo
from duplex.errors import WeightsError
from duplex.extras import require

__all__ = ["ENDING", "GgufFile", "gguf_fingerprint_chunks", "header_of_beginning", "is_rounded"]

ENDING = ".gguf"
SAMPLES = 64
SAMPLE_BYTES = 4096
BEGINNINGS = (1 << 20, 1 << 24, 1 << 26)
"""Bytes at the beginning of a file, one of which its header is in."""
_WHOLE = frozenset({"F32", "F16", "BF16", "F64"})


def is_rounded(tensor: TensorInfo) -> bool:
    """Return whether a tensor of a GGUF file is held in blocks of few bits."""
    return tensor.dtype[:1] in ("Q", "I") and "_" in tensor.dtype


class GgufFile:
    """A GGUF file: its header, and its tensors one at a time, memory-mapped until they are read.

    :raises WeightsError: if the file cannot be read, or is damaged
    :raises MissingDependencyError: if the package that reads it is not installed
    """

    def __init__(self, path: Path) -> None:
        require("gguf", "gguf", purpose=f"{path.name}, a GGUF file,")
        gguf: Any = importlib.import_module("gguf")
        self._path = path
        self._dequantize: Any = gguf.dequantize
        try:
            reader: Any = gguf.GGUFReader(path)
            self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in reader.tensors}
            self.header: Header = _header(self._tensors)
        except OSError as error:
            raise WeightsError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
        except Exception as error:  # whatever the reader stumbles over in a damaged file
            raise WeightsError(f"{path}: this is no GGUF file, or a damaged one; download or copy it again") from error

    def keys(self) -> list[str]:
        """Return the names of the tensors."""
        return list(self._tensors)

    def read(self, name: str) -> NDArray[np.float32]:
        """Return a tensor as the float32 numbers that it stands for.

        :raises WeightsError: if it is of a type that is not read
        """
        tensor = self._tensors[name]
        kind = self.header[name].dtype
        if kind not in _WHOLE and not is_rounded(self.header[name]):
            raise WeightsError(f"{self._path}: tensor '{name}' is {kind}; floating or rounded weights are wanted")
        try:
            numbers: NDArray[np.generic] = self._dequantize(tensor.data, tensor.tensor_type)
            return np.array(numbers, np.float32).reshape(self.header[name].shape)
        except (NotImplementedError, ValueError) as error:
            raise WeightsError(
                f"{self._path}: tensor '{name}' is {kind}, which is not read ({error}); give one of q8_0, q4_0 or q4_k"
            ) from error


def header_of_beginning(begin: Callable[[int], tuple[bytes, int]], name: str) -> Header:
    """Return the header of a file from its beginning: ``begin(n)`` gives its first n bytes, and its whole size.

    The reader wants a whole file; the rest of this one is a hole, which takes no place on a disk.

    :raises WeightsError: if it is no GGUF file, or its header is longer than any
    :raises MissingDependencyError: if the package that reads it is not installed
    """
    for length in BEGINNINGS:
        data, size = begin(length)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            path.write_bytes(data)
            os.truncate(path, size)
            try:
                return GgufFile(path).header
            except WeightsError:
                if length >= size or length == BEGINNINGS[-1]:
                    break
    raise WeightsError(f"{name}: this is no GGUF file, or a damaged one; look at it on the hub")


def gguf_fingerprint_chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes that a file is fingerprinted by: its size and samples, the first of which has its header.

    :raises WeightsError: if it cannot be read
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            yield size.to_bytes(8, "little")
            for sample in range(SAMPLES):
                file.seek(max(size - SAMPLE_BYTES, 0) * sample // (SAMPLES - 1))
                yield hashlib.sha256(file.read(SAMPLE_BYTES)).digest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _header(tensors: dict[str, Any]) -> Header:
    infos: dict[str, TensorInfo] = {}
    sizes: dict[str, int] = {}
    for name, tensor in tensors.items():
        shape = tuple(int(size) for size in reversed(tensor.shape))
        if len(shape) > MOST_DIMENSIONS or math.prod(shape) != int(tensor.n_elements):
            raise ValueError(name)
        kind = str(tensor.tensor_type.name)
        infos[name] = TensorInfo(kind, shape)
        sizes[kind] = sizes.get(kind, 0) + int(tensor.n_bytes)
    return Header(infos, {}, sizes)
