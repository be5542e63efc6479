"""Files that appear whole or not at all.

A result is written under a temporary name beside its target and renamed when it is complete, so that whoever finds a
file under its own name can rely on it, even after a crash or a full disk.
"""

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import sys
from collections.abc import Generator
from pathlib import Path

from duplex.errors import OutputError

if sys.platform != "win32":  # where what somebody has open cannot be removed
    import fcntl

__all__ = [
    "Hold",
    "abandon",
    "atomic_path",
    "atomic_write_bytes",
    "atomic_write_text",
    "begin",
    "clear_remains",
    "complete",
    "make_folder",
    "output_error",
]

MAX_NAME_BYTES = 255
"""Bytes of a file's name that common file systems allow."""
TOKEN_BYTES = 4
"""Random bytes in the name of a part, two letters each."""
_ADVICE = {
    errno.ENOSPC: "the disk is full; make room or choose another folder",
    errno.EFBIG: "the file is larger than the disk or your limits allow; choose another folder",
    errno.EACCES: "you may not write there; choose another folder",
    errno.EPERM: "you may not write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EISDIR: "a folder of that name is in the way; remove it or choose another name",
    errno.ENOENT: "its folder does not exist; make it first",
    errno.ENOTDIR: "part of its path is a file, not a folder; choose another folder",
    errno.EEXIST: "something of that name is in the way; remove it or choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}
if hasattr(errno, "EDQUOT"):  # Windows has no quotas by that name
    _ADVICE[errno.EDQUOT] = "your disk quota is used up; make room or choose another folder"


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the error that tells a user why ``path`` cannot be written and what to do."""
    advice = _ADVICE.get(error.errno or 0)
    return OutputError(f"{path} cannot be written: {advice or error.strerror or error}")


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it.

    :raises OutputError: if something else is in the way, or the disk refuses
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"{folder} is a file, not a folder; remove it or choose another --out") from None
    except OSError as error:
        raise output_error(folder, error) from None
    except ValueError:
        raise OutputError(f"{folder!s} is no name for a folder; choose another --out") from None


def begin(path: Path) -> Path:
    """Return a fresh temporary name beside ``path``, ending in ``.part``; nothing is created yet.

    The name is random, so that two runs with the same target never write into one file.

    :raises OutputError: if ``path`` is there and is not a plain file: renaming onto a device would replace it
    """
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a device or pipe"
            raise OutputError(f"{path} cannot be written: it is {kind}; choose another name")
    except OSError as error:
        raise output_error(path, error) from None
    return path.with_name(f"{_beginning(path)}.{secrets.token_hex(TOKEN_BYTES)}.part")


class Hold:
    """Keeps a file or folder that is there from other runs, until it is closed or the process ends.

    It is the system's own lock, advisory and on no name. Where the file system has none, everybody may hold.

    :raises BlockingIOError: if another run holds it
    :raises OSError: if it cannot be opened
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        if sys.platform != "win32":
            self._descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise
            except OSError:  # a file system without locks
                pass

    def close(self) -> None:
        """Let go; calling it twice is harmless."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def clear_remains(path: Path) -> None:
    """Remove the unfinished files that runs which were killed have left beside ``path``; what is held stays."""
    for part in path.parent.glob(f"{glob.escape(_beginning(path))}.{'?' * 2 * TOKEN_BYTES}.part"):
        with contextlib.suppress(OSError), contextlib.closing(Hold(part)):
            abandon(part)


def _beginning(path: Path) -> str:
    """Return what the names of a target's parts, and of no other's, begin with, so short that they are allowed."""
    room = MAX_NAME_BYTES - len(f".{'?' * 2 * TOKEN_BYTES}.part")
    name = os.fsencode(path.name)
    if len(name) <= room:
        return path.name
    digest = hashlib.sha256(name).hexdigest()[: 2 * TOKEN_BYTES]
    return f"{name[: room - len(digest) - 1].decode(errors='ignore')}~{digest}"


def complete(part: Path, path: Path) -> None:
    """Put the finished ``part`` under its final name, replacing what was there; ``part`` is gone either way.

    :raises OutputError: if the system refuses
    """
    try:
        with part.open("r+b") as file:
            os.fsync(file.fileno())  # otherwise a power cut could leave the final name on an empty file
        part.replace(path)
    except OSError as error:
        abandon(part)
        raise output_error(path, error) from None
    except BaseException:  # Ctrl-C while the disk is waited for
        abandon(part)
        raise


def abandon(part: Path) -> None:
    """Remove an unfinished ``part``, if it is there and can be removed."""
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, mode: int = 0o666) -> Generator[Path, None, None]:
    """Give a temporary path to write to; leaving the block well renames it to ``path``, any exception removes it.

    The file is there, empty, with ``mode`` less the umask; the block must close it. An :class:`OSError` that leaves the
    block is taken for one of writing.

    :raises OutputError: if the file cannot be written
    """
    target = Path(path)
    part = begin(target)
    try:
        part.touch(mode, exist_ok=False)
        with contextlib.closing(Hold(part)):
            yield part
    except OSError as error:
        abandon(part)
        raise output_error(target, error) from None
    except BaseException:
        abandon(part)
        raise
    complete(part, target)


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes | memoryview, *, mode: int = 0o666) -> None:
    """Write ``data`` to ``path``, whole or not at all; it is never there with more rights than ``mode``.

    :raises OutputError: if the file cannot be written
    """
    with atomic_path(path, mode=mode) as part:
        part.write_bytes(data)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    r"""Write ``text`` to ``path`` as UTF-8, whole or not at all; line ends stay ``\n`` on every system.

    :raises OutputError: if the file cannot be written
    """
    atomic_write_bytes(path, text.encode())
