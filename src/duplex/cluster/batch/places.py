"""Where results go: a folder that every machine of the cluster sees, or an object store.

A store has no folders to write in: each worker has a copy of what matters of a recording's earlier results, in which it
works as in a folder. What is large and only has to be there is an empty file in it. New results are sent file by file,
that which says that all are there last, as each of them appears whole or not at all.
"""

import contextlib
import json
import secrets
import tempfile
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from duplex.atomic import make_folder, output_error
from duplex.cluster.batch.stored import file_system, is_address
from duplex.cluster.connection import reason
from duplex.errors import OutputError

__all__ = ["Place", "SharedFolder", "Store", "place_of"]

SMALL = (".json", ".txt")
"""Suffixes of what is fetched of earlier results; of the rest it matters only that it is there."""


class Place(Protocol):
    """Where results go; names are relative to it, and have ``/`` in them on every system."""

    @property
    def shown(self) -> str:
        """The place as people know it."""
        ...

    def prepare(self) -> str | None:
        """Make it; return the name of a file in it by which a worker tells whether it sees the same place.

        :raises OutputError: if it cannot be made
        """
        ...

    def sees(self, sign: str) -> bool:
        """Tell whether a file is there."""
        ...

    def forget(self, sign: str) -> None:
        """Remove the file."""
        ...

    def opened(self, markers: Iterable[str]) -> contextlib.AbstractContextManager[Path]:
        """Give a folder to work in, which holds what is there of the results with these markers."""
        ...

    def publish(self, work: Path, files: Sequence[str]) -> None:
        """Have files of the folder at their place, the marker last.

        :raises OutputError: if the place refuses
        """
        ...


@attrs.frozen
class SharedFolder:
    """A folder: what is written in it is there."""

    path: Path

    @property
    def shown(self) -> str:
        """The folder, as it was given."""
        return str(self.path)

    def prepare(self) -> str:
        """Make the folder, and a hidden file in it."""
        make_folder(self.path)
        sign = f".{secrets.token_hex(8)}.part"
        try:
            (self.path / sign).touch()
        except OSError as error:
            raise output_error(self.path, error) from None
        return sign

    def sees(self, sign: str) -> bool:
        """Tell whether the file is there."""
        return (self.path / sign).is_file()

    def forget(self, sign: str) -> None:
        """Remove the file."""
        (self.path / sign).unlink(missing_ok=True)

    @contextlib.contextmanager
    def opened(self, markers: Iterable[str]) -> Generator[Path]:
        """Give the folder itself."""
        del markers
        yield self.path

    def publish(self, work: Path, files: Sequence[str]) -> None:
        """Do nothing: they are there."""


@attrs.frozen
class Store:
    """An address in an object store."""

    address: str

    @property
    def shown(self) -> str:
        """The address."""
        return self.address

    def prepare(self) -> None:
        """Look at the store, which needs no folders."""
        system, root = file_system(self.address)
        try:
            system.makedirs(root, exist_ok=True)
        except Exception as error:  # each store has errors of its own
            raise _refused(self.address, error) from error

    def sees(self, sign: str) -> bool:
        """Tell whether a file is there; any machine sees a store."""
        return self.has(sign)

    def forget(self, sign: str) -> None:
        """Do nothing: there is no sign."""

    def has(self, name: str) -> bool:
        """Tell whether there is a file of that name."""
        system, root = file_system(self.address)
        return bool(system.exists(f"{root}/{name}"))

    @contextlib.contextmanager
    def opened(self, markers: Iterable[str]) -> Generator[Path]:
        """Give a folder with the results that the markers stand for, large files empty."""
        with tempfile.TemporaryDirectory(prefix="duplex-", ignore_cleanup_errors=True) as folder:
            for marker in markers:
                self._restore(marker, Path(folder))
            yield Path(folder)

    def _restore(self, marker: str, work: Path) -> None:
        system, root = file_system(self.address)
        target = work / marker
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            system.get_file(f"{root}/{marker}", str(target))
        except FileNotFoundError:
            return
        except Exception as error:  # each store has errors of its own
            raise _refused(f"{self.address}/{marker}", error) from error
        above = marker.rpartition("/")[0]
        for name in _listed(target):
            if not system.exists(f"{root}/{above}/{name}"):
                continue
            if name.endswith(SMALL):
                system.get_file(f"{root}/{above}/{name}", str(target.parent / name))
            else:
                (target.parent / name).touch()

    def publish(self, work: Path, files: Sequence[str]) -> None:
        """Send the files; until the last of them is there, none of an earlier run says that all are."""
        system, root = file_system(self.address)
        try:
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(f"{root}/{files[-1]}")
            for name in files:
                if "/" in name:
                    system.makedirs(f"{root}/{name.rpartition('/')[0]}", exist_ok=True)
                system.put_file(str(work / name), f"{root}/{name}")
        except Exception as error:  # each store has errors of its own
            raise _refused(f"{self.address}/{files[-1]}", error) from error


def place_of(out: str) -> Place:
    """Return the place that a text means: an address, or a folder."""
    return Store(out.rstrip("/")) if is_address(out) else SharedFolder(Path(out))


def _listed(marker: Path) -> list[str]:
    """Return the files that a marker names, none if it names none."""
    try:
        content: Any = json.loads(marker.read_bytes())
        return [str(name) for name in content["files"] if "/" not in str(name)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _refused(what: str, error: Exception) -> OutputError:
    return OutputError(f"{what} cannot be written: {reason(error)}")
