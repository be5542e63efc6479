"""Weights files of every kind that is read: safetensors, GGUF, or an index that names several.

Large models of Hugging Face transformers come in pieces, beside ``model.safetensors.index.json``, which says what is
where. Such a file stands for all of them: it is what a checkpoint's ``weights`` is then.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from duplex.checkpoints import weights_file
from duplex.checkpoints.gguf_file import ENDING, GgufFile, gguf_fingerprint_chunks
from duplex.checkpoints.weights_file import Header
from duplex.errors import WeightsError
from duplex.parsing import parse_json

__all__ = ["INDEX", "fingerprint_chunks", "merged", "read_header", "shards", "size_on_disk"]

INDEX = "model.safetensors.index.json"
_OF_INDEX = ".index.json"
_LONGEST = 16_000_000
"""Bytes of an index."""


def shards(path: Path) -> list[Path]:
    """Return the files that a weights file is: itself, or those that it names, which lie beside it.

    :raises WeightsError: if it is an index that cannot be read
    """
    if not path.name.endswith(_OF_INDEX):
        return [path]
    try:
        with path.open("rb") as file:
            found: Any = parse_json(file.read(_LONGEST))
        files = sorted({str(name) for name in cast("dict[str, Any]", found["weight_map"]).values()})
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path}: this is no index of weights, or a damaged one; download or copy it again"
        ) from error
    if not files or not all(map(_is_plain, files)):
        raise WeightsError(f"{path}: an index names the .safetensors files beside it; download or copy it again")
    return [path.with_name(name) for name in files]


def read_header(path: Path) -> Header:
    """Read the header of a weights file, with the tensors of all files that it is.

    :raises WeightsError: if one cannot be read, is of another format, is damaged, or is truncated
    """
    if path.name.endswith(ENDING):
        return GgufFile(path).header
    return merged([weights_file.read_header(each) for each in shards(path)])


def merged(headers: list[Header]) -> Header:
    """Return the tensors of several files as those of one."""
    if len(headers) == 1:
        return headers[0]
    sizes: dict[str, int] = {}
    for header in headers:
        for kind, size in header.bytes.items():
            sizes[kind] = sizes.get(kind, 0) + size
    return Header({name: tensor for header in headers for name, tensor in header.items()}, headers[0].metadata, sizes)


def size_on_disk(path: Path) -> int:
    """Return the bytes of all files that a weights file is.

    :raises WeightsError: if it is an index that cannot be read
    """
    return sum(each.stat().st_size for each in shards(path))


def fingerprint_chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes that weights are fingerprinted by.

    :raises WeightsError: if a file cannot be read or is not safetensors
    """
    if path.name.endswith(ENDING):
        yield from gguf_fingerprint_chunks(path)
        return
    for each in shards(path):
        yield from weights_file.fingerprint_chunks(each)


def _is_plain(name: str) -> bool:
    return name.endswith(".safetensors") and not {"/", "\\", ":"} & set(name)
