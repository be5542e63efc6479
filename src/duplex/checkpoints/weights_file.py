"""What a safetensors file says about itself, read without its tensors.

The format opens with the length of a JSON header (8 bytes, little endian), the header, then the data. The header alone
tells names, types and shapes, and where each tensor lies, so that a truncated download is noticed before anything is
allocated.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import attrs

from duplex.errors import WeightsError

__all__ = ["Header", "TensorInfo", "digest", "read_header"]

PREFIX = 8
"""Bytes before the header: its length."""
LONGEST_HEADER = 100_000_000
"""Bytes; the format's own limit, which keeps a damaged length from allocating memory."""
SAMPLES = 64
SAMPLE_BYTES = 4096

BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}

FOREIGN = {
    b"PK\x03\x04": "a zip archive, as PyTorch's pickle files are",
    b"\x80": "a pickle",
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself (run `git lfs pull` in its folder)",
    b"<": "a web page",
}


@attrs.frozen
class TensorInfo:
    """One tensor of a file: its type by the format's name ("F32", "BF16", ...) and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


class Header(dict[str, TensorInfo]):
    """Tensor names to what they are. ``metadata`` holds the file's own strings, ``bytes`` each type's bytes of data."""

    def __init__(
        self, tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str], sizes: Mapping[str, int]
    ) -> None:
        super().__init__(tensors)
        self.metadata: dict[str, str] = dict(metadata)
        self.bytes: dict[str, int] = dict(sizes)

    @property
    def elements(self) -> dict[str, int]:
        """How many numbers of each type there are."""
        counts: dict[str, int] = {}
        for tensor in self.values():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.elements
        return counts


def read_header(path: Path) -> Header:
    """Read a safetensors file's header, and check that the file is as long as it says.

    :raises WeightsError: if the file cannot be read, is of another format, is damaged, or is cut short
    """
    try:
        with path.open("rb") as file:
            text = _header_bytes(file, path)
            size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    header, data = _parse(text, path)
    expected = PREFIX + len(text) + data
    if size != expected:
        what = "cut short" if size < expected else "damaged"
        raise WeightsError(f"{path}: {what}, {size} bytes where its header says {expected}; download or copy it again")
    return header


def digest(path: Path) -> Iterator[bytes]:
    """Yield what tells a weights file from another of the same shape: size, header, and samples of the data.

    64 blocks of 4 KiB, evenly spread, stand for the data, so that 15 GB take no longer than 15 MB.

    :raises WeightsError: if the file cannot be read or is not safetensors
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            header = _header_bytes(file, path)
            yield size.to_bytes(8, "little")
            yield hashlib.sha256(header).digest()
            start = PREFIX + len(header)
            last = max(size - SAMPLE_BYTES, start)
            for sample in range(SAMPLES):
                file.seek(start + (last - start) * sample // (SAMPLES - 1))
                yield file.read(SAMPLE_BYTES)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _header_bytes(file: IO[bytes], path: Path) -> bytes:
    """Read the header's JSON text from an open file."""
    prefix = file.read(PREFIX)
    start = prefix + file.read(24)
    length = int.from_bytes(prefix, "little")
    # A safetensors file has its header's brace at once; other formats are only looked for where it has not.
    if len(prefix) < PREFIX or start[PREFIX : PREFIX + 1] != b"{" or length > LONGEST_HEADER:
        for magic, kind in FOREIGN.items():
            if start.startswith(magic):
                raise WeightsError(f"{path}: this is {kind}; get the checkpoint's .safetensors file")
        raise WeightsError(f"{path}: this is no safetensors file, or a damaged one; download or copy it again")
    file.seek(PREFIX)
    text = file.read(length)
    if len(text) < length:
        raise WeightsError(f"{path}: cut short within its header; download or copy it again")
    return text


def _parse(text: bytes, path: Path) -> tuple[Header, int]:
    """Read the header's JSON; return it and the length of the data in bytes."""
    try:
        raw: Any = json.loads(text)
        metadata: dict[str, str] = raw.pop("__metadata__", None) or {}
        tensors: dict[str, TensorInfo] = {}
        sizes: dict[str, int] = {}
        end = 0
        for name, entry in cast("dict[str, Any]", raw).items():
            tensor = TensorInfo(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]))
            first, last = (int(n) for n in entry["data_offsets"])
            if not 0 <= first <= last or (last - first) * 8 != tensor.elements * BITS.get(tensor.dtype, 0):
                _check_unknown_type(tensor, name)
            tensors[name] = tensor
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + last - first
            end = max(end, last)
        return Header(tensors, metadata, sizes), end
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: its header is damaged; download or copy the file again") from error


def _check_unknown_type(tensor: TensorInfo, name: str) -> None:
    """Let types pass that this version does not know, and nothing else that does not add up."""
    if tensor.dtype in BITS:
        raise ValueError(name)
