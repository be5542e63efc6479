"""Safetensors headers, read without the tensors.

The format is the length of a JSON header (8 bytes, little endian), the header, then the data. The header has names,
dtypes, shapes and offsets, so that a truncated download is detected before anything is allocated.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import attrs

from duplex.errors import WeightsError
from duplex.parsing import parse_json

__all__ = ["Header", "TensorInfo", "checked_header", "fingerprint_chunks", "read_header", "sizes_of"]

LENGTH_BYTES = 8
"""Bytes that hold the length of the header."""
LONGEST_HEADER = 16_000_000
"""Bytes, of which large models take a hundredth: a header must neither take long to parse nor fill the memory."""
MOST_DIMENSIONS = 64
"""Dimensions of a tensor; numpy and torch take no more."""
LARGEST = 2**63 - 1
"""The largest dimension or offset."""
SAMPLES = 64
SAMPLE_BYTES = 4096

BITS_PER_ELEMENT = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}

FOREIGN_FORMATS = {
    b"PK\x03\x04": "a zip archive, as PyTorch's pickle files are",
    b"\x80": "a pickle",
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself (run `git lfs pull` in its folder)",
    b"<": "a web page",
}


@attrs.frozen
class TensorInfo:
    """A tensor's dtype, by the format's name ("F32", "BF16", ...), and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


class Header(dict[str, TensorInfo]):
    """Tensors by name. ``metadata`` has the file's own strings, ``bytes`` the bytes of data by dtype."""

    def __init__(
        self, tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str], sizes: Mapping[str, int]
    ) -> None:
        super().__init__(tensors)
        self.metadata: dict[str, str] = dict(metadata)
        self.bytes: dict[str, int] = dict(sizes)

    @property
    def elements(self) -> dict[str, int]:
        """The number of elements by dtype."""
        counts: dict[str, int] = {}
        for tensor in self.values():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.elements
        return counts


def sizes_of(tensors: Iterable[TensorInfo]) -> dict[str, int]:
    """Return the bytes of tensors by dtype, of those whose width is known."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.elements * BITS_PER_ELEMENT.get(tensor.dtype, 0) // 8
    return sizes


def read_header(path: Path) -> Header:
    """Read a safetensors file's header, and check the length of the file against it.

    :raises WeightsError: if the file cannot be read, is of another format, is damaged, or is truncated
    """
    try:
        with path.open("rb") as file:
            text = _header_bytes(file, path)
            size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    header, data = _parse(text, path)
    expected = LENGTH_BYTES + len(text) + data
    if size != expected:
        what = "cut short" if size < expected else "damaged"
        raise WeightsError(f"{path}: {what}, {size} bytes where its header says {expected}; download or copy it again")
    return header


def fingerprint_chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes that a weights file is fingerprinted by: its size, its header's hash, and samples of the data.

    The samples are 64 evenly spaced blocks of 4 KiB, so that 15 GB take no longer than 15 MB.

    :raises WeightsError: if the file cannot be read or is not safetensors
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            header = _header_bytes(file, path)
            yield size.to_bytes(8, "little")
            yield hashlib.sha256(header).digest()
            start = LENGTH_BYTES + len(header)
            last = max(size - SAMPLE_BYTES, start)
            for sample in range(SAMPLES):
                file.seek(start + (last - start) * sample // (SAMPLES - 1))
                yield file.read(SAMPLE_BYTES)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _header_bytes(file: IO[bytes], path: Path) -> bytes:
    """Return the header's JSON text."""
    prefix = file.read(LENGTH_BYTES)
    start = prefix + file.read(24)
    length = int.from_bytes(prefix, "little")
    # A safetensors file has its header's brace at once; other formats are only looked for where it has not.
    if len(prefix) < LENGTH_BYTES or start[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{" or length > LONGEST_HEADER:
        for magic, kind in FOREIGN_FORMATS.items():
            if start.startswith(magic):
                raise WeightsError(f"{path}: this is {kind}; get the checkpoint's .safetensors file")
        raise WeightsError(f"{path}: this is no safetensors file, or a damaged one; download or copy it again")
    file.seek(LENGTH_BYTES)
    text = file.read(length)
    if len(text) < length:
        raise WeightsError(f"{path}: cut short within its header; download or copy it again")
    return text


def _parse(text: bytes, path: Path) -> tuple[Header, int]:
    """Parse the header's JSON; return it and the length of the data in bytes."""
    try:
        entries: Any = parse_json(text)
        metadata = _strings(entries.pop("__metadata__", None) or {})
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: its header is damaged; download or copy the file again") from error
    return checked_header(entries, metadata, str(path))


def checked_header(entries: Mapping[str, Any], metadata: Mapping[str, str], where: str) -> tuple[Header, int]:
    """Return the header that the format's entries are, by name, and the length of the data in bytes.

    :raises WeightsError: if an entry is damaged
    """
    tensors: dict[str, TensorInfo] = {}
    sizes: dict[str, int] = {}
    end = 0
    try:
        for name, entry in entries.items():
            tensor = TensorInfo(str(entry["dtype"]), _integers(entry["shape"], MOST_DIMENSIONS))
            first, last = _integers(entry["data_offsets"], 2)
            if first > last or (last - first) * 8 != tensor.elements * BITS_PER_ELEMENT.get(tensor.dtype, 0):
                _check_unknown_type(tensor, name)
            tensors[name] = tensor
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + last - first
            end = max(end, last)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{where}: its header is damaged; download or copy the file again") from error
    return Header(tensors, metadata, sizes), end


def _integers(values: Any, most: int) -> tuple[int, ...]:
    """Return at most so many integers of 63 bits, so that products of them stay small enough to compute."""
    if not isinstance(values, list) or len(cast("list[Any]", values)) > most:
        raise ValueError("too many numbers")
    integers = tuple(cast("list[Any]", values))
    if not all(type(n) is int and 0 <= n <= LARGEST for n in integers):
        raise ValueError("numbers out of range")
    return integers


def _strings(values: Any) -> dict[str, str]:
    strings: dict[str, Any] = dict(values)
    if not all(isinstance(value, str) for value in strings.values()):
        raise ValueError("metadata that is no text")
    return strings


def _check_unknown_type(tensor: TensorInfo, name: str) -> None:
    """Accept sizes that do not match only for dtypes that this version does not know."""
    if tensor.dtype in BITS_PER_ELEMENT:
        raise ValueError(name)
