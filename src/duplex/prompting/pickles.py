"""Tensors out of a ``.pt`` file, without running what a pickle may hold.

A file of ``torch.save`` is a zip archive: a pickle that says how tensors are made of storages, and the storages' bytes.
Of what a pickle can call, only what makes tensors is known here, and it is ours.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from duplex.errors import AudioFileError

__all__ = ["read_tensors"]

MAX_BYTES = 1 << 26
_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}
_BFLOAT16 = "BFloat16Storage"


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file that holds a dictionary of them; bfloat16 comes as float32.

    :raises AudioFileError: if it is something else, too large, or damaged
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = _unpickled(archive)
        return {str(key): value for key, value in found.items() if isinstance(value, np.ndarray)}
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError) as error:
        raise _unreadable(path, error) from error
    except (pickle.UnpicklingError, zipfile.BadZipFile, NotImplementedError, RuntimeError, MemoryError) as error:
        raise _unreadable(path, error) from error


def _unpickled(archive: zipfile.ZipFile) -> dict[Any, Any]:
    if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
        raise ValueError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")
    (name,) = [entry for entry in archive.namelist() if entry.endswith("/data.pkl")]
    found = _Unpickler(archive, name.removesuffix("data.pkl")).load()
    if not isinstance(found, dict):
        raise TypeError("it holds no dictionary")
    return cast("dict[Any, Any]", found)


def _unreadable(path: Path, error: BaseException) -> AudioFileError:
    return AudioFileError(
        f"{path}: no voice can be read from it ({error}); give a file as its authors publish it, or a recording"
    )


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self._archive = archive
        self._folder = folder

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in the pickle."""
        if module == "torch" and name in _STORAGES:
            return name
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which makes no tensor")

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        """Return a storage's numbers."""
        _, kind, key, _, count = pid
        raw = self._archive.read(f"{self._folder}data/{key}")
        numbers = np.frombuffer(raw, _STORAGES[kind], count=count)
        if kind == _BFLOAT16:
            return (numbers.astype(np.uint32) << 16).view(np.float32)
        return numbers


def _tensor(
    storage: NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> NDArray[Any]:
    """Return a tensor of a storage."""
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError("a tensor's shape is damaged")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size and last >= len(storage):
        raise ValueError("a tensor is larger than its numbers")
    if math.prod(size) > len(storage):  # strides of 0 would make much of little
        raise ValueError("a tensor repeats its numbers")
    steps = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy()
