"""Was a recording cut short? Decoders do not tell: they deliver what is there.

- A wav says in the header of its samples how many bytes they are, a large one (RF64, BW64) in a table before them. What
  lies behind the samples does not matter, and a writer that counts its own header in is forgiven.
- The last page of an Ogg stream carries a flag that says so (RFC 3533).
- For everything else, the length that it states of itself is compared with what was heard.

Who writes to a pipe does not know the length, and states the largest there is, or nearly so: 0, or sizes a little off 2
or 4 GiB. These promise nothing.
"""

import os
from pathlib import Path
from typing import BinaryIO

from duplex.errors import AudioFileError

__all__ = ["is_truncated"]

TOLERANCE = 0.5
"""Seconds that an honest header may promise too much."""
_PLACEHOLDERS = (range(1), range(0x7F000000, 0x80010000), range(0xFFFF0000, 1 << 32), range(0x7FFF << 48, 1 << 64))
"""Sizes in bytes that no writer means: 0, about 2 GiB (SoX, ALSA, libsndfile), 4 GiB (FFmpeg), the most of 64 bits."""
_IN_TABLE = 0xFFFFFFFF
_LARGE = (b"RF64", b"BW64")
_LONGEST_HEADER = 4096
"""Bytes that a writer may have counted in."""
_LAST_PAGES = 2 * 65307
_END_OF_STREAM = 4


def is_truncated(path: Path, heard: float) -> bool:
    """Tell whether a recording that was ``heard`` for so many seconds is only the beginning of what it was.

    A file that can no longer be read counts as whole.
    """
    from duplex.audio.containers import promised_duration  # noqa: PLC0415 -- it imports PyAV

    try:
        with path.open("rb") as file:
            start = file.read(12)
            size = os.fstat(file.fileno()).st_size
            if start[:4] in {b"RIFF", *_LARGE}:
                return _lacks_samples(file, size)
            if start[:4] == b"OggS":
                file.seek(max(0, size - _LAST_PAGES))
                return not _ends(file.read())
            if start[:4] == b"FORM" and _streamed_aiff(file):
                return False
        promised = promised_duration(path)
    except (OSError, AudioFileError):
        return False
    return promised is not None and promised - heard > TOLERANCE


def _lacks_samples(file: BinaryIO, size: int) -> bool:
    """Tell whether a wav of so many bytes, read up to its first chunk, has fewer bytes of samples than it says."""
    table = 0
    while len(header := file.read(8)) == 8:  # noqa: PLR2004 -- a name and a length
        name, length = header[:4], int.from_bytes(header[4:], "little")
        begin = file.tell()
        if name == b"data":
            declared = table if length == _IN_TABLE and table else length
            missing = begin + declared - size
            return not _is_placeholder(declared) and missing > min(begin, _LONGEST_HEADER)
        if name == b"ds64":
            table = int.from_bytes(file.read(16)[8:], "little")
        file.seek(begin + length + length % 2)
    return False


def _streamed_aiff(file: BinaryIO) -> bool:
    """Tell whether an aiff, read up to its first chunk, was written without knowing its length."""
    while len(header := file.read(8)) == 8:  # noqa: PLR2004 -- a name and a length
        length = int.from_bytes(header[4:], "big")
        if header[:4] == b"SSND":
            return _is_placeholder(length)
        file.seek(length + length % 2, os.SEEK_CUR)
    return False


def _is_placeholder(size: int) -> bool:
    return any(size in sizes for sizes in _PLACEHOLDERS)


def _ends(pages: bytes) -> bool:
    """Tell whether the last page of these says that it is the last."""
    last = pages.rfind(b"OggS")
    return last >= 0 and last + 5 < len(pages) and bool(pages[last + 5] & _END_OF_STREAM)
