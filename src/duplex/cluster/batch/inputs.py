"""What the inputs of a run on a cluster stand for.

Beside files, folders and patterns, which are looked for as without a cluster: shards of WebDataset (``.tar``, by name,
by pattern, as ``NAME-{000..127}.tar``, or in a folder) and addresses of files, folders and patterns in an object store.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath

import attrs

from duplex.audio.folders import AUDIO_SUFFIXES, walk
from duplex.cluster.batch.shards import SUFFIX, Member, expand_braces, is_shard
from duplex.cluster.batch.stored import Stored, file_system, is_address
from duplex.cluster.connection import reason
from duplex.errors import AudioFileError, DuplexError, UsageError
from duplex.process.names import distinct_names
from duplex.process.streams import is_stream

__all__ = ["Far", "Given", "far_of", "split"]


@attrs.frozen(kw_only=True)
class Far:
    """A recording that is no file of its own on this machine, and the name of its results."""

    stored: Stored
    name: PurePath
    transcript: Stored | None = None
    problem: DuplexError | None = None


@attrs.frozen(kw_only=True)
class Given:
    """The inputs, by where they are."""

    local: list[str]
    """Files, folders and patterns."""
    stored: list[tuple[Stored, PurePath]]
    """Files at addresses, and their paths relative to the address given."""
    shards: list[tuple[str, PurePath]]
    """Archives, and their paths likewise."""


def split(inputs: Iterable[str]) -> Given:
    """Tell the inputs apart, and look for what is at addresses. Blocking.

    :raises UsageError: if an input is a pipe, or an address that cannot be opened
    :raises AudioFileError: if a store cannot be looked into
    """
    given = Given(local=[], stored=[], shards=[])
    for text in (each for item in inputs for each in expand_braces(item)):
        if text == "-" or is_stream(Path(text)):
            raise UsageError(f"{text} is a pipe, which no machine of a cluster can read; give files")
        for address, relative in _at_address(text) if is_address(text) else ():
            if is_shard(address):
                given.shards.append((address, relative))
            else:
                given.stored.append((Stored(address=address), relative))
        if not is_address(text):
            shards, rest = _local_shards(Path(text))
            given.shards.extend((str(path), relative) for path, relative in shards)
            given.local.extend([text] if rest else [])
    return given


def far_of(given: Given, listed: Sequence[Sequence[Member] | DuplexError]) -> list[Far]:
    """Return the recordings at addresses and in shards, each with a name of its own.

    :param listed: the members of each shard, or why it could not be listed: then the shard itself fails as a recording
    """
    found: list[tuple[Far, Sequence[PurePath]]] = [
        (Far(stored=stored, name=relative), (relative.with_suffix(""), relative)) for stored, relative in given.stored
    ]
    for (address, relative), members in zip(given.shards, listed, strict=True):
        below = relative.with_suffix("")
        if isinstance(members, DuplexError):
            found.append((Far(stored=Stored(address=address), name=below, problem=members), (below, relative)))
            continue
        for each in members:
            far = Far(stored=each.stored, name=below, transcript=each.transcript)
            found.append((far, [below / name for name in each.names]))
    names = distinct_names([candidates for _, candidates in found])
    return [attrs.evolve(far, name=name) for (far, _), name in zip(found, names, strict=True)]


def _local_shards(path: Path) -> tuple[list[tuple[Path, PurePath]], bool]:
    """Return the shards that a path stands for, relative to it, and whether it stands for anything else."""
    if path.is_dir():
        files = [folder / name for folder, names in walk(path) for name in names]
        shards = sorted(each for each in files if is_shard(each.name) and os.path.isfile(each))  # noqa: PTH113 -- pathlib's raises where nothing may be asked
        rest = not shards or any(each.suffix.lower() in AUDIO_SUFFIXES for each in files)
        return [(each, each.relative_to(path)) for each in shards], rest
    if not is_shard(path.name):
        return [], True
    if not path.exists() and glob.has_magic(str(path)):
        found = sorted(Path(name) for name in glob.iglob(str(path), recursive=True))  # noqa: PTH207 -- pathlib's takes no absolute patterns
        return [(each, PurePath(each.name)) for each in found or [path]], False
    return [(path, PurePath(path.name))], False


def _at_address(address: str) -> Iterator[tuple[str, PurePath]]:
    """Yield the recordings and shards at an address: a file, what is below a folder, or what matches a pattern."""
    system, path = file_system(address)
    try:
        if glob.has_magic(path):
            paths: list[str] = sorted(system.glob(path))
            base = str(PurePosixPath(*_fixed(PurePosixPath(path).parts)))
        elif system.isdir(path):
            paths, base = sorted(system.find(path)), path
        else:
            yield address, PurePath(PurePosixPath(path).name)
            return
    except Exception as error:  # each store has errors of its own
        raise AudioFileError(f"{address} cannot be looked into: {reason(error)}") from error
    taken = [each for each in paths if PurePosixPath(each).suffix.lower() in AUDIO_SUFFIXES | {SUFFIX}]
    if not taken:
        raise UsageError(f"{address} has no recordings; give a folder that has, or an audio file")
    for each in taken:
        yield system.unstrip_protocol(each), PurePath(each.removeprefix(base.rstrip("/")).strip("/"))


def _fixed(parts: Sequence[str]) -> Iterator[str]:
    """Yield the parts of a path before the first with a wildcard."""
    for part in parts:
        if glob.has_magic(part):
            return
        yield part
