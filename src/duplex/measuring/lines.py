"""Tables of text, read line by line: what RTTM, CTM, manifests and lists have in common."""

import gzip
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from duplex.errors import UsageError

__all__ = ["as_list", "as_object", "read_lines", "seconds"]

LARGEST_LINE = 16 << 20
LARGEST = 2 << 30
"""Characters of a table: what is larger is no table, or one that would not fit into memory."""


def read_lines(path: Path, kind: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not empty, with their numbers; ``.gz`` is unpacked.

    :param kind: what the file should be, for messages
    :raises UsageError: if it cannot be read, is no text in UTF-8, or too large
    """
    try:
        with _opened(path) as file:
            total, number = 0, 0
            while line := file.readline(LARGEST_LINE):
                total, number = total + len(line), number + 1
                if len(line) == LARGEST_LINE or total > LARGEST:
                    raise UsageError(f"{path}, line {number}: too large for {kind}; split it into several files")
                if "\0" in line:
                    raise UsageError(f"{path}, line {number}: this is no text; give {kind} in UTF-8")
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text; give {kind} in UTF-8") from None
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; check the name and the folder") from None
    except (OSError, EOFError, ValueError) as error:  # EOFError: a .gz that is cut short
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _opened(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def as_list(value: Any) -> list[Any]:
    """Return a list of JSON's as it is, and anything else as the only one of a list."""
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def as_object(value: Any) -> Mapping[str, Any] | None:
    """Return an object of JSON's, ``None`` for anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else None


def seconds(where: str, text: str) -> float:
    """Return a time or a duration.

    :param where: the file and the line, for the message
    :raises UsageError: if it is none, negative or not finite
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UsageError(f"{where}: {text!r} is no time; write seconds from 0 on")
    return value
