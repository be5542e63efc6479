"""Where recordings lie that are no files of this machine: an object store, a web server, a member of an archive.

What can be opened at an address is fsspec's: ``s3://`` and ``gs://`` with ``s3fs`` and ``gcsfs`` beside it, ``https://``,
``file://``, and what else is installed.
"""

import re
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from duplex.cluster.connection import reason
from duplex.errors import AudioFileError, DuplexError, MissingDependencyError, UsageError

__all__ = ["Stored", "file_system", "is_address"]

BLOCK = 1 << 20
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class Stored:
    """The bytes of a recording: all that is at ``address``, or those of a member of the archive there."""

    address: str
    member: str | None = None
    offset: int = 0
    size: int = 0

    @property
    def label(self) -> str:
        """What results call it."""
        return self.address if self.member is None else f"{self.address}/{self.member}"

    def fetch(self, folder: Path, name: str | None = None) -> Path:
        """Copy the bytes into a folder, under their own name if no other is given, and return where.

        :raises AudioFileError: if they are not there, or cannot be read
        """
        copy = folder / (name or PurePosixPath(self.label).name or "recording")
        try:
            system, path = file_system(self.address)
            if self.member is None:
                system.get_file(path, str(copy))
                return copy
            with system.open(path, "rb") as archive, copy.open("wb") as file:
                archive.seek(self.offset)
                left = self.size
                while left and (block := archive.read(min(left, BLOCK))):
                    file.write(block)
                    left -= len(block)
        except FileNotFoundError:
            raise AudioFileError(f"{self.label} is not there; check the address") from None
        except DuplexError:
            raise
        except Exception as error:  # each store has errors of its own
            raise AudioFileError(f"{self.label} cannot be read: {reason(error)}") from error
        if left:
            raise AudioFileError(f"{self.address} ends within {self.member}; copy the archive again")
        return copy


def is_address(text: str) -> bool:
    """Tell whether a text is an address, and no path."""
    return _ADDRESS.match(text) is not None


def file_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system for an address or a path, and the path there.

    :raises UsageError: if no such store is known
    :raises MissingDependencyError: if what speaks to it is not installed
    """
    fsspec: Any = import_module("fsspec.core")
    try:
        system, path = fsspec.url_to_fs(address)
    except ImportError as error:
        raise MissingDependencyError(f"{address} needs a package that is not installed: {reason(error)}") from None
    except ValueError as error:
        raise UsageError(f"{address} is no address that can be opened: {reason(error)}") from None
    return system, path
