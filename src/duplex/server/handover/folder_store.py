"""A store of conversations in a folder, which servers on one machine, or with one file system, share.

::

    <folder>/<key>    what is kept: the time it ends, then the bytes; 0600, written whole or not at all
    <folder>/<key>.<generation>.claimed    until when it is remembered that the key has been claimed

A claim is the making of its file, which only one can do, and then the removal of what is kept. What has ended is
removed now and then. Files with other names are somebody else's: they are neither counted nor touched.
"""

import contextlib
import itertools
import os
import re
import secrets
import struct
import threading
import time
from pathlib import Path

import anyio.to_thread

from duplex.atomic import output_error
from duplex.server.handover.stores import FencedError, StoreError

__all__ = ["FolderStore"]

MAX_BYTES = 4 << 30
_KEY = re.compile(r"[0-9a-f]{64}")
_HEADER = struct.Struct("<d")
_CLAIM = re.compile(r"[0-9a-f]{64}\.([0-9]{1,18})\.claimed")
_OURS = re.compile(rf"[0-9a-f]{{64}}\.[0-9a-f]{{8}}\.part|{_CLAIM.pattern}|{_KEY.pattern}")
_SWEEP_SECONDS = 10.0
"""Between two times that what has ended is removed, where only claims come: each leaves a file for a while."""
_MOST_DISCARDED = 10_000
"""Keys that are remembered as discarded, for as long as a thread may still write that nobody waits for any more."""


class FolderStore:
    """Keeps conversations in a ``folder``, of at most ``max_bytes`` together.

    :raises OutputError: if the folder cannot be made
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._sweep_at = 0.0
        self._turns = itertools.count()
        """Which came first of what is put and discarded."""
        self._discarded: dict[str, int] = {}
        """The turns of the keys that were discarded last, the oldest first."""
        self._noting = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(folder, error) from None

    async def put(self, key: str, generation: int, data: bytes, seconds: float) -> None:
        """Keep ``data`` under ``key`` for so many ``seconds``, in place of what was kept there.

        :raises FencedError: if the key has been claimed in this generation or a later one
        :raises StoreError: if there is no room, the disk refuses, or the key is discarded meanwhile
        """
        began = next(self._turns)
        await anyio.to_thread.run_sync(
            self._put, self._path(key), generation, data, seconds, began, abandon_on_cancel=True
        )

    async def claim(self, key: str, generation: int, seconds: float) -> bytes | None:
        """Own ``key`` in ``generation``: take out what is kept under it, ``None`` if there is nothing.

        :raises FencedError: if the key has been claimed in this generation or a later one
        :raises StoreError: if the disk refuses
        """
        return await anyio.to_thread.run_sync(self._claim, self._path(key), generation, seconds)

    async def discard(self, key: str) -> None:
        """Forget what is kept under a key.

        :raises StoreError: if the disk refuses
        """
        path = self._path(key)
        self._note_discarded(key)  # first, so that a thread that puts it last looks for that afterwards
        await anyio.to_thread.run_sync(self._discard, path)

    async def aclose(self) -> None:
        """Do nothing: no file stays open."""

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise StoreError("a key of the store is 64 hexadecimal digits; give the digest of a token")
        return self._folder / key

    def _put(self, path: Path, generation: int, data: bytes, seconds: float, began: int) -> None:
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            self._check_not_claimed(path, generation)
            if self._used(path) + len(data) > self._max_bytes:
                raise StoreError(f"{self._folder} is full: it has {self._max_bytes} bytes of conversations")
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 -- a path's open knows no mode
                file.write(_HEADER.pack(time.time() + seconds))
                file.write(data)
            self._check_not_discarded(path, began)
            part.replace(path)
            try:  # what claimed or discarded it meanwhile has looked for it too early
                self._check_not_claimed(path, generation)
                self._check_not_discarded(path, began)
            except StoreError:
                path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._refusal(error) from None
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _claim(self, path: Path, generation: int, seconds: float) -> bytes | None:
        mark = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            if time.monotonic() > self._sweep_at:
                self._used(path)
            self._check_not_claimed(path, generation)
            mark.write_bytes(_HEADER.pack(time.time() + seconds))
            # A link is made once: of two who claim at the same moment one is too late.
            os.link(mark, path.with_name(f"{path.name}.{generation}.claimed"))
            kept = path.read_bytes()
            path.unlink()
        except FileNotFoundError:
            return None
        except FileExistsError:
            raise FencedError("somebody else has claimed the conversation") from None
        except OSError as error:
            raise self._refusal(error) from None
        finally:
            with contextlib.suppress(OSError):
                mark.unlink(missing_ok=True)
        return kept[_HEADER.size :] if _ends(kept) > time.time() else None

    def _check_not_claimed(self, path: Path, generation: int) -> None:
        for mark in self._folder.glob(f"{path.name}.*.claimed"):
            named = _CLAIM.fullmatch(mark.name)
            if named is not None and int(named[1]) >= generation and _ends(_read(mark)) > time.time():
                raise FencedError("somebody else has claimed the conversation")

    def _check_not_discarded(self, path: Path, began: int) -> None:
        """Refuse what has been discarded since its ``put`` began: nobody may wait for that any more."""
        if self._discarded.get(path.name, began) > began:
            raise StoreError("the conversation is over; nothing is kept of it")

    def _note_discarded(self, key: str) -> None:
        with self._noting:
            self._discarded.pop(key, None)
            self._discarded[key] = next(self._turns)
            if len(self._discarded) > _MOST_DISCARDED:
                del self._discarded[next(iter(self._discarded))]

    def _discard(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise self._refusal(error) from None

    def _used(self, but: Path) -> int:
        """Return the bytes that are kept, without those of one file; what has ended is removed."""
        self._sweep_at = time.monotonic() + _SWEEP_SECONDS
        used, now = 0, time.time()
        for each in self._folder.iterdir():
            if _OURS.fullmatch(each.name) is None:
                continue
            with contextlib.suppress(OSError):
                with each.open("rb") as file:
                    head = file.read(_HEADER.size)
                # Windows removes no file that is open.
                if len(head) == _HEADER.size and _ends(head) <= now:  # one without a whole head has just begun
                    each.unlink()
                elif each != but:
                    used += each.stat().st_size
        return used

    def _refusal(self, error: OSError) -> StoreError:
        return StoreError(f"{self._folder} cannot keep conversations ({error.strerror or error}); calls stay here")


def _read(mark: Path) -> bytes:
    """Return what a claim's file holds, nothing if it has just been removed."""
    try:
        return mark.read_bytes()
    except FileNotFoundError:
        return b""


def _ends(kept: bytes) -> float:
    return float(_HEADER.unpack_from(kept)[0]) if len(kept) >= _HEADER.size else 0.0
