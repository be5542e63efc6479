"""What is given to the cluster: a recording or a dialogue each, as paths and addresses; no audio passes Ray."""

import contextlib
import re
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import TypeAlias

import attrs

from duplex.cluster.batch.stored import Stored
from duplex.errors import DuplexError
from duplex.measuring.source import Source
from duplex.process.recordings import Recording

__all__ = ["Found", "Item", "Payload", "fetched"]

SIDE_BY_SIDE = 8
"""Copies that are made side by side: a store's latency is long, and its throughput high."""
Payload: TypeAlias = Recording | Source
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class Found:
    """A recording or dialogue that was found; ``stored`` says where its files are, ``None`` for one that has a path."""

    payload: Payload
    stored: tuple[Stored | None, ...]
    transcript: Stored | None = None
    problem: DuplexError | None = None
    """What was wrong with it before it was looked at."""

    @classmethod
    def of(cls, payload: Payload) -> "Found":
        """Return one whose files have paths, or addresses that a manifest named."""
        stored = tuple(_stored(file.path) for file in files_of(payload))
        files = [
            file if place is None else attrs.evolve(file, origin=place.address)
            for file, place in zip(files_of(payload), stored, strict=True)
        ]
        return cls(payload=_with_files(payload, files), stored=stored)

    def named(self, name: PurePath) -> "Found":
        """Return the same with another name."""
        return attrs.evolve(self, payload=attrs.evolve(self.payload, name=name))


@attrs.frozen(kw_only=True)
class Item:
    """What was found, with its number and the name of its results."""

    index: int
    name: str
    found: Found

    @property
    def label(self) -> str:
        """What the item is called in rows and messages."""
        return ", ".join(dict.fromkeys(file.origin or str(file.path) for file in files_of(self.found.payload)))

    @property
    def is_here(self) -> bool:
        """Whether all its files have paths."""
        return not any(self.found.stored)

    @property
    def size(self) -> int:
        """Bytes of its files, as far as that is known: long ones begin first."""
        stored = zip(files_of(self.found.payload), self.found.stored, strict=True)
        return sum(_size(file.path) if place is None else place.size for file, place in stored)


@contextlib.contextmanager
def fetched(items: Sequence[Item]) -> Generator[list[Payload | Exception]]:
    """Give what each item stands for with files of this machine: copies, of those that are elsewhere. Blocking.

    What cannot be fetched is the error that tells why.
    """
    with (
        tempfile.TemporaryDirectory(prefix="duplex-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(SIDE_BY_SIDE) as threads,
    ):
        folders = [Path(folder) / str(item.index) for item in items]
        yield list(threads.map(_fetched, items, folders))


def files_of(payload: Payload) -> tuple[Recording, ...]:
    """Return the files of a recording or a dialogue."""
    return (payload,) if isinstance(payload, Recording) else payload.files


def _fetched(item: Item, folder: Path) -> Payload | Exception:
    found, files = item.found, files_of(item.found.payload)
    problem = found.problem or (found.payload.problem if isinstance(found.payload, Source) else None)
    if problem is not None:
        return problem
    if item.is_here:
        return found.payload
    try:
        folder.mkdir()
        copies: list[Recording] = []
        for number, (file, stored) in enumerate(zip(files, found.stored, strict=True)):
            if stored is None:
                copies.append(file)
                continue
            within = folder / str(number)
            within.mkdir()
            path = stored.fetch(within)
            copies.append(attrs.evolve(file, path=path, content=path))
        if found.transcript is not None:
            first = copies[0].path
            found.transcript.fetch(first.parent, f"{first.stem}.json")
    except Exception as error:  # noqa: BLE001 -- the other recordings must not suffer
        return error
    return _with_files(found.payload, copies)


def _with_files(payload: Payload, files: Sequence[Recording]) -> Payload:
    return files[0] if isinstance(payload, Recording) else attrs.evolve(payload, files=tuple(files))


def _stored(path: Path) -> Stored | None:
    """Return where an address leads that has been taken for a path, which has one slash less."""
    found = _ADDRESS.match(path.as_posix())
    if found is None:
        return None
    slashes = "///" if found[1] == "file" else "//"  # a file's has no host
    return Stored(address=f"{found[1]}:{slashes}{path.as_posix()[found.end() :]}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0
