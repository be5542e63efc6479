"""The folder of recordings: what lies there, whose it is, and how a recording is deleted.

::

    <folder>/<time>-<number>/call.json     whose call it is, and what its caller knew of being recorded
    <folder>/deletions.jsonl               a line for each recording that was deleted: which, whose, when, by whom, why

Only folders with a recording's name are touched, never one behind a link.
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import attrs

from duplex.atomic import output_error
from duplex.errors import OutputError, UsageError
from duplex.server.logs import fields

__all__ = [
    "ABOUT",
    "DELETIONS",
    "MOMENT",
    "Deleted",
    "Recording",
    "Why",
    "delete",
    "delete_all",
    "expired",
    "recordings_in",
]

log: logging.Logger = logging.getLogger(__name__)

ABOUT = "call.json"
MOMENT = "%Y-%m-%dT%H:%M:%SZ"
"""How times are written, of UTC."""
DELETIONS = "deletions.jsonl"
_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
_MAX_ABOUT_BYTES = 1 << 16
BEING_WRITTEN_SECONDS = 120.0
"""Since the last write to a recording that has no end yet, in which another process may still write it.

Its writer touches it every second, also while nothing is said."""
Why: TypeAlias = Literal["age", "size", "caller", "operator"]


@attrs.frozen(kw_only=True)
class Recording:
    """A recording that lies in a folder."""

    path: Path
    session: str = ""
    """The session's id, "" where nobody wrote it down."""
    owner: str = ""
    """Whose token its caller showed, "" where none was wanted."""
    written: float
    """When it was last written to, in seconds since 1970."""
    size: int
    """Bytes of all its files."""
    ended: bool = True

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    def being_written(self, now: float) -> bool:
        """Tell whether the call may still go on."""
        return not self.ended and now - self.written < BEING_WRITTEN_SECONDS


def recordings_in(folder: Path) -> Sequence[Recording]:
    """Return the recordings of a folder, the oldest first.

    :raises UsageError: if there is no such folder
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _is_recording(entry)]
    except OSError as error:
        raise UsageError(f"{folder} cannot be read ({error.strerror}); give the folder of --record") from None
    return [each for name in sorted(names) if (each := _read(folder / name)) is not None]


def expired(
    recordings: Sequence[Recording], now: float, *, days: float, gigabytes: float
) -> Iterator[tuple[Recording, Why]]:
    """Tell which recordings are to go, the oldest first: those too old, then those that are too much; 0 is no limit.

    ``recordings`` are the oldest first. What is being written is counted and stays. Each is to be deleted before the
    next is asked for: one that is still there then has made no room.
    """
    kept: list[Recording] = []
    for each in recordings:
        if days and now - each.written > days * 86_400 and not each.being_written(now):
            yield each, "age"
        else:
            kept.append(each)
    excess = sum(each.size for each in kept) - gigabytes * 1e9
    for each in kept:
        if gigabytes and excess > 0 and not each.being_written(now):
            yield each, "size"
            if not each.path.exists():
                excess -= each.size


@attrs.frozen(kw_only=True)
class Deleted:
    """Why, and by whom, a recording is deleted."""

    why: Why
    by: str
    """The owner's name, or what did it."""


def delete_all(chosen: Iterable[tuple[Recording, Deleted]]) -> Iterator[tuple[Recording, Deleted]]:
    """Delete recordings, and yield each that is gone; one that cannot be deleted keeps none of the others.

    :raises OutputError: after the last one, if some cannot be deleted
    """
    refused: list[OutputError] = []
    for recording, reason in chosen:
        try:
            delete(recording, reason)
        except OutputError as error:
            refused.append(error)
        else:
            yield recording, reason
    if refused:
        first, *others = refused
        raise OutputError(f"{first}; {len(others)} more cannot be deleted") if others else first


def delete(recording: Recording, reason: Deleted) -> None:
    """Delete a recording, and write down that it was.

    :raises OutputError: if it cannot be deleted; what is left of it stays a recording
    """
    audit = recording.path.parent / DELETIONS
    try:
        # Opened first: nothing is deleted that cannot be written down.
        with open(audit, "a", encoding="utf-8", opener=_private) as file:
            if _remove(recording.path):
                told = {**_named(recording), "why": reason.why, "by": reason.by}
                moment = time.strftime(MOMENT, time.gmtime())
                file.write(json.dumps({"time": moment, **told}, ensure_ascii=False) + "\n")
                log.info("recording deleted", extra=fields(**told))
    except OSError as error:
        raise output_error(audit, error) from error


def _remove(path: Path) -> bool:
    """Remove a folder; tell whether it was still there.

    :raises OutputError: if the disk refuses
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return False  # somebody else was faster
    except OSError as error:
        raise output_error(path, error) from error
    return True


def _named(recording: Recording) -> dict[str, str | int]:
    return {
        "recording": recording.name,
        "session": recording.session,
        "owner": recording.owner,
        "bytes": recording.size,
    }


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _is_recording(entry: "os.DirEntry[str]") -> bool:
    return _NAME.fullmatch(entry.name) is not None and entry.is_dir(follow_symlinks=False)


def _state(entry: "os.DirEntry[str]") -> os.stat_result | None:
    """Return how a file is, ``None`` if it has just gone, as one does that takes its final name."""
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _read(path: Path) -> Recording | None:
    """Return what lies in a folder, ``None`` if it has just gone."""
    try:
        with os.scandir(path) as entries:
            states = [state for entry in entries if (state := _state(entry)) is not None]
        written = max((state.st_mtime for state in states), default=path.stat().st_mtime)
    except OSError:
        return None
    about = _about(path / ABOUT)
    return Recording(
        path=path,
        session=str(about.get("session") or ""),
        owner=str(about.get("owner") or ""),
        written=written,
        size=sum(state.st_size for state in states),
        ended=not about or about.get("ended") is not None,
    )


def _about(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            about: Any = json.loads(file.read(_MAX_ABOUT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", about) if isinstance(about, dict) else {}
