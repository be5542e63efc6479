"""WebDataset's shards: archives (.tar) of samples, whose files are side by side and alike up to the first dot.

A shard is listed by its headers; a recording in it is read at its place, and nothing before it. That is not possible in
a compressed archive.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import PurePath, PurePosixPath

import attrs

from duplex.audio.folders import AUDIO_SUFFIXES
from duplex.cluster.batch.stored import Stored, file_system
from duplex.cluster.connection import reason
from duplex.errors import AudioFileError

__all__ = ["Member", "expand_braces", "is_shard", "list_shard"]

SUFFIX = ".tar"
TRANSCRIPT = ".json"
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


@attrs.frozen(kw_only=True)
class Member:
    """A recording of a shard, the names that its results may have below the shard's, and what its sample says of it."""

    stored: Stored
    names: tuple[PurePath, ...]
    transcript: Stored | None = None


def is_shard(text: str) -> bool:
    """Tell whether a path or an address is that of a shard, by its name."""
    return text.lower().endswith(SUFFIX)


def expand_braces(text: str) -> list[str]:
    """Return the texts that ``{000..127}`` in one stands for, as WebDataset writes it."""
    found = _BRACES.search(text)
    if found is None:
        return [text]
    first, last = found.groups()
    numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return [each for number in numbers for each in expand_braces(text[: found.start()] + number + text[found.end() :])]


def list_shard(address: str) -> list[Member]:
    """Return the recordings in a shard, in their order. Blocking.

    :raises AudioFileError: if it cannot be read, is no archive, is compressed, or has no recordings
    """
    try:
        system, path = file_system(address)
        with (
            system.open(path, "rb", cache_type="readahead", block_size=2**16) as file,
            tarfile.open(fileobj=file, mode="r:") as archive,
        ):
            files = [(each.name, each.offset_data, each.size) for each in archive if each.isfile()]
    except FileNotFoundError:
        raise AudioFileError(f"{address} is not there; check its name") from None
    except tarfile.TarError as error:
        raise AudioFileError(
            f"{address} is no archive that can be read at any place ({reason(error)}); write it as a plain .tar, not "
            "compressed"
        ) from None
    except OSError as error:
        raise AudioFileError(f"{address} cannot be read: {reason(error)}") from None
    members = list(_members(address, files))
    if not members:
        raise AudioFileError(f"{address} has no recordings in it; give a shard of wav, flac, mp3 or the like")
    return members


def _members(address: str, files: Sequence[tuple[str, int, int]]) -> Iterator[Member]:
    stored = {name: Stored(address=address, member=name, offset=at, size=size) for name, at, size in files}
    for name, each in stored.items():
        path = PurePosixPath(name)
        if path.suffix.lower() not in AUDIO_SUFFIXES or path.name.startswith("."):
            continue
        key = path.with_name(path.name.split(".", 1)[0])
        names = tuple(_safe(candidate) for candidate in (key, path.with_suffix(""), path))
        yield Member(stored=each, names=names, transcript=stored.get(f"{key}{TRANSCRIPT}"))


def _safe(path: PurePosixPath) -> PurePath:
    """Return a path that stays below where it is put."""
    parts = [part for part in path.parts if part not in {"/", "..", "."}]
    return PurePath(*parts) if parts else PurePath("recording")
