"""Was a recording cut short? Decoders do not tell: they deliver what is there.

- A wav says in its first bytes how long the file is.
- The last page of an Ogg stream carries a flag that says so (RFC 3533).
- For everything else, the length that its headers promise is compared with what was heard.
"""

import os
from pathlib import Path

__all__ = ["is_truncated"]

TOLERANCE = 0.5
"""Seconds that an honest header may promise too much."""
_STREAMED = (0, 0xFFFFFFFF)
"""Sizes that a wav has when its writer did not know the length."""
_LAST_PAGES = 2 * 65307
_END_OF_STREAM = 4


def is_truncated(path: Path, promised: float | None, heard: float) -> bool:
    """Tell whether a recording that was ``heard`` for so many seconds is only the beginning of what it was.

    ``promised`` is the length in its headers, if they tell. A file that can no longer be read counts as whole.
    """
    try:
        with path.open("rb") as file:
            start = file.read(12)
            size = os.fstat(file.fileno()).st_size
            if start[:4] == b"RIFF":
                declared = int.from_bytes(start[4:8], "little")
                return declared not in _STREAMED and declared + 8 > size
            if start[:4] == b"OggS":
                file.seek(max(0, size - _LAST_PAGES))
                return not _ends(file.read())
    except OSError:
        return False
    return promised is not None and promised - heard > TOLERANCE


def _ends(pages: bytes) -> bool:
    """Tell whether the last page of these says that it is the last."""
    last = pages.rfind(b"OggS")
    return last >= 0 and last + 5 < len(pages) and bool(pages[last + 5] & _END_OF_STREAM)
