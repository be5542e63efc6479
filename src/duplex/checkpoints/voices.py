"""The voices of a checkpoint: files in its folder ``voices``, or in an archive ``voices.tgz``, by their names.

An archive is unpacked once, into the user's cache: its files alone, whatever paths it gives them.
"""

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from duplex.checkpoints.sources import CheckpointSource, LocalFolder
from duplex.checkpoints.user_cache import cache_folder
from duplex.errors import CheckpointError, UsageError
from duplex.parsing import shown

__all__ = ["VOICE_SUFFIXES", "Voices"]

FOLDER, ARCHIVE = "voices", "voices.tgz"
VOICE_SUFFIXES = (".pt", ".safetensors", ".wav", ".flac", ".mp3", ".ogg")
MAX_VOICE_BYTES = 1 << 26
MAX_VOICES = 4096
_PIECE = 1 << 20


class Voices:
    """The voices that a name may stand for: a checkpoint's own, and those of another folder if one is given."""

    def __init__(self, source: CheckpointSource | None, folder: Path | None = None) -> None:
        self._source = source
        self._folder = folder

    @property
    def listed(self) -> tuple[str, ...]:
        """The names that are known without a download; the archive's own name if there is one."""
        if self._own_folder is not None:
            return tuple(sorted(_voices_in(self._own_folder)))
        return (ARCHIVE,) if self._source is not None and self._source.has(ARCHIVE) else ()

    def beside(self, folder: Path) -> "Voices":
        """Return these voices and those of a folder, which come first."""
        return Voices(self._source, folder)

    @property
    def names(self) -> Sequence[str]:
        """Names, sorted; a voice in several formats has one."""
        return sorted(self._files)

    def find(self, name: str) -> Path | None:
        """Return the file of a voice, with its suffix or without, or ``None``."""
        files = self._files
        stem = Path(name).stem if name.endswith(VOICE_SUFFIXES) and Path(name).name == name else name
        return files.get(stem)

    def unknown(self, name: str, *, files: bool = True) -> UsageError:
        """Return the error for a name that stands for nothing; ``files`` says whether a file may be given."""
        known = ", ".join(self.names)
        other = "give a file" if files else "leave it out"
        choose = f"choose among {known}" if known else f"this checkpoint has none, so {other}"
        return UsageError(f"there is no voice {shown(name)}; {choose}")

    @cached_property
    def _files(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in (self._own_folder or self._unpacked, self._folder):
            if folder is not None:
                found |= _voices_in(folder)
        return found

    @property
    def _own_folder(self) -> Path | None:
        if not isinstance(self._source, LocalFolder):
            return None
        folder = self._source.folder / FOLDER
        return folder if folder.is_dir() else None

    @cached_property
    def _unpacked(self) -> Path | None:
        """The archive's files in the cache; ``None`` without an archive.

        :raises CheckpointError: if it is damaged, too large, or cannot be downloaded or unpacked
        """
        if self._source is None or not self._source.has(ARCHIVE):
            return None
        archive = self._source.fetch(ARCHIVE)
        try:
            with archive.open("rb") as file:
                target = cache_folder() / FOLDER / hashlib.file_digest(file, "sha256").hexdigest()[:32]
            if not target.is_dir():
                _unpack(archive, target)
        except (OSError, tarfile.TarError, EOFError) as error:
            raise CheckpointError(
                f"{archive}: the voices cannot be unpacked ({error}); download it again, or unpack it yourself beside "
                "config.json"
            ) from error
        return target


def _voices_in(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their stems; of one voice in several formats the first of the suffixes."""
    found: dict[str, Path] = {}
    for suffix in reversed(VOICE_SUFFIXES):
        for path in sorted(folder.glob(f"*{suffix}"))[:MAX_VOICES]:
            if path.is_file():
                found[path.stem] = path
    return found


def _unpack(archive: Path, target: Path) -> None:
    """Put an archive's voices side by side into a folder, all or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=target.parent) as name,
        tarfile.open(archive, "r:gz") as packed,
    ):
        made = Path(name) / "made"
        made.mkdir()
        for number, member in enumerate(packed):
            file = packed.extractfile(member) if member.isfile() and member.name.endswith(VOICE_SUFFIXES) else None
            if number >= MAX_VOICES or member.size > MAX_VOICE_BYTES:
                raise tarfile.TarError("it holds more than voices")
            if file is not None:
                with file, (made / Path(member.name).name).open("wb") as copy:
                    shutil.copyfileobj(file, copy, _PIECE)
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():  # another process was first, with the same files
                raise
