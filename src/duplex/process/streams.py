"""Recordings that come through a pipe: they are read once, into a temporary file, before anything is done with them.

A recording is looked at several times: whether it opens, whether its content has been processed before, then to be
heard. The copies lie in the system's folder for temporary files, and are gone when the block is left.
"""

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import BinaryIO

import attrs

from duplex.process.recordings import STANDARD_INPUT, Recording

__all__ = ["is_stream", "spooled"]


def is_stream(path: Path) -> bool:
    """Tell whether a recording can be read only once."""
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        return path == STANDARD_INPUT or path.is_fifo()
    return False


@contextlib.contextmanager
def spooled(recordings: Iterable[Recording]) -> Generator[list[Recording], None, None]:
    """Give the same recordings with the ``content`` of pipes copied to files. Blocking, until every pipe has ended.

    A standard input that is a terminal or closed stays as it is: processing it tells what is wrong.

    :raises AudioFileError: if there is no room for a copy
    """
    with contextlib.ExitStack() as stack:
        yield [_spooled(recording, stack) if is_stream(recording.path) else recording for recording in recordings]


def _spooled(recording: Recording, stack: contextlib.ExitStack) -> Recording:
    from duplex.audio.containers import spool  # noqa: PLC0415 -- it imports PyAV

    source = _standard_input() if recording.path == STANDARD_INPUT else recording.path.open("rb")
    if source is None:  # of a closed one a library may have the descriptor, and /dev/stdin would be that library's file
        return attrs.evolve(recording, content=Path(os.devnull))
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="duplex-", ignore_cleanup_errors=True))
    content = Path(folder) / "recording"
    with source, content.open("wb") as copy:
        spool(source, copy, recording.path)
    return attrs.evolve(recording, content=content)


def _standard_input() -> BinaryIO | None:
    """Return what is sent to this process, ``None`` if that is nothing: a terminal, or closed."""
    try:
        descriptor = -1 if sys.stdin is None else sys.stdin.fileno()  # pyright: ignore[reportUnnecessaryComparison]
        kind = os.fstat(descriptor).st_mode
    except (OSError, ValueError):  # ValueError: an object without a descriptor stands in for it
        return None
    return None if stat.S_ISCHR(kind) else open(descriptor, "rb", closefd=False)
