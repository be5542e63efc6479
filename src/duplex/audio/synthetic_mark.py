"""The mark of synthetic speech in what is written and sent here, where ordinary programs show it.

========  ============================  =====================  ================================================
format    where                         names the program      says what is synthetic, with IPTC's term for that
========  ============================  =====================  ================================================
wav       a ``LIST INFO`` chunk         ``ISFT``               ``ICMT``
Ogg Opus  the stream's comments         ``ENCODER``            ``DESCRIPTION``
========  ============================  =====================  ================================================

By the term (``digitalSourceType``) machines find it. A mark is removed as easily as it is read: it tells who wants to
know, and keeps nobody from lying.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import duplex

__all__ = ["Synthetic", "mark_chunk", "mark_comments", "read_mark"]

Synthetic: TypeAlias = Literal["all", "right"]
"""What of a file is synthetic speech: all of it, or its right channel."""
_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_COMMENTS = {
    "all": f"Synthetic speech; digitalSourceType={_TERMS}trainedAlgorithmicMedia",
    "right": f"Synthetic speech in the right channel; digitalSourceType={_TERMS}compositeWithTrainedAlgorithmicMedia",
}
_CHUNK = struct.Struct("<4sI")


def mark_chunk(synthetic: Synthetic) -> bytes:
    """Return the chunk, of an even number of bytes."""
    info = b"INFO" + _text(b"ISFT", _program()) + _text(b"ICMT", _COMMENTS[synthetic])
    return _CHUNK.pack(b"LIST", len(info)) + info


def mark_comments() -> tuple[str, ...]:
    """Return the comments of an Ogg stream that is synthetic speech, each ``NAME=text`` (RFC 7845, section 5.2)."""
    return f"ENCODER={_program()}", f"DESCRIPTION={_COMMENTS['all']}"


def read_mark(path: Path) -> Synthetic | None:
    """Return what a wav file says of itself, ``None`` if it bears no mark.

    :raises OSError: if it cannot be read
    """
    with path.open("rb") as file:
        lists = [file.read(size) for name, size in _chunks(file) if name == b"LIST"]
    comments: dict[Synthetic, str] = {"all": _COMMENTS["all"], "right": _COMMENTS["right"]}
    return next((kind for kind, text in comments.items() if any(text.encode() in each for each in lists)), None)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Go from chunk to chunk; each is given with its size, at its first byte."""
    at = 12
    file.seek(at)
    while len(head := file.read(_CHUNK.size)) == _CHUNK.size:
        name, size = _CHUNK.unpack(head)
        yield name, size
        at += _CHUNK.size + size + size % 2
        file.seek(at)


def _program() -> str:
    return f"duplex {duplex.__version__}"


def _text(name: bytes, text: str) -> bytes:
    data = text.encode("ascii") + b"\0"
    return _CHUNK.pack(name, len(data)) + data + b"\0" * (len(data) % 2)
