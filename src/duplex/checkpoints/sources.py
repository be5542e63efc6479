"""Where a checkpoint's files are: in the package, in a folder, or in a repository of the hub.

A name in ``config.json`` may be a file of the same checkpoint, ``hf://owner/name/file`` or ``file://path``.
"""

import contextlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, Protocol

import attrs

from duplex.checkpoints.hub import REPOSITORY, HubRepository
from duplex.errors import CheckpointNotFoundError, ConfigError, UsageError

__all__ = ["CONFIG", "FolderSource", "Kind", "Source", "builtin_names", "locate", "open_source"]

CONFIG = "config.json"
Kind = Literal["built in", "folder", "hub"]


class Source(Protocol):
    """Where a checkpoint's own files are."""

    @property
    def origin(self) -> str:
        """The folder or repository, for messages."""
        ...

    def has(self, file: str) -> bool:
        """Tell whether there is such a file."""
        ...

    def fetch(self, file: str) -> Path:
        """Return a file, downloaded if need be.

        :raises CheckpointError: if there is no such file, or it cannot be had
        """
        ...

    def remember(self) -> None:
        """Take note that all files that were wanted are on this machine."""
        ...


@attrs.frozen
class FolderSource:
    """A checkpoint in a folder of this machine."""

    folder: Path

    @property
    def origin(self) -> str:
        """The folder, for messages."""
        return str(self.folder)

    def has(self, file: str) -> bool:
        """Tell whether the folder holds a file."""
        return (self.folder / PurePosixPath(file)).is_file()

    def fetch(self, file: str) -> Path:
        """Return a file of the folder.

        :raises CheckpointNotFoundError: if there is none of that name
        """
        if not self.has(file):
            raise CheckpointNotFoundError(f"{self.origin}: the file '{file}' is missing; download or copy it there")
        return self.folder / PurePosixPath(file)

    def remember(self) -> None:
        """Do nothing: a folder is where it is."""


def locate(name: str, source: Source, *, key: str, progress: bool) -> tuple[Source, str]:
    """Return where the file of a name in ``config.json`` is, and its name there. ``key`` is for messages.

    :raises ConfigError: if the name leads out of the checkpoint other than by ``hf://`` or ``file://``
    """
    if name.startswith("file://"):
        path = Path(name.removeprefix("file://"))
        return FolderSource(path.parent), path.name
    if name.startswith("hf://"):
        owner, _, rest = name.removeprefix("hf://").partition("/")
        repository, _, file = rest.partition("/")
        repository, _, revision = repository.partition("@")
        if not file:
            raise ConfigError(f"{source.origin}: '{key}' is '{name}'; the form is hf://owner/name/file")
        source, name = HubRepository(f"{owner}/{repository}", revision or None, progress=progress), file
    # A configuration from elsewhere must not reach around the checkpoint into other files.
    if not name or ".." in PurePosixPath(name).parts or PureWindowsPath(name).anchor or "\\" in name:
        raise ConfigError(f"{source.origin}: '{key}' is '{name}'; give a file of the checkpoint, hf:// or file://path")
    return source, name


def builtin_names() -> list[str]:
    """Return the names of the models that come with this package."""
    with contextlib.suppress(OSError):
        return sorted(folder.name for folder in _builtin_folder().iterdir() if (folder / CONFIG).is_file())
    return []


def _builtin_folder() -> Path:
    from importlib.resources import files  # noqa: PLC0415 -- takes 5 ms, which `import duplex` spares

    return Path(str(files("duplex"))) / "models"


def open_source(name: str, revision: str | None, *, progress: bool) -> tuple[Kind, FolderSource | HubRepository]:
    """Return what a checkpoint's name is, and where its files are.

    A built-in name comes before a folder of the same name (which ``./name`` reaches), and a folder before the hub.

    :raises UsageError: if a revision is given of something that has none
    :raises CheckpointNotFoundError: if the name is none of these
    """
    name = str(name)
    builtin = name in builtin_names()
    folder = _builtin_folder() / name if builtin else _expanded(name)
    if builtin or (name.strip() and _is(folder, "is_dir")):
        if revision is not None:
            raise UsageError(
                f"revision is '{revision}', but '{name}' is a folder; only hub repositories have revisions"
            )
        return ("built in" if builtin else "folder"), FolderSource(folder)
    if name.strip() and _is(folder, "is_file"):
        raise CheckpointNotFoundError(f"'{name}' is a file; give the folder of the checkpoint that it is in")
    if REPOSITORY.fullmatch(name):
        return "hub", HubRepository(name, revision, progress=progress)
    raise CheckpointNotFoundError(
        f"there is no model or folder '{name}'; built in: {', '.join(builtin_names()) or 'none'}; "
        "from the hub: owner/name, such as kyutai/moshika-pytorch-bf16"
    )


def _expanded(name: str) -> Path:
    with contextlib.suppress(RuntimeError):  # "~somebody", who is not known here
        return Path(name).expanduser()
    return Path(name)


def _is(path: Path, kind: Literal["is_dir", "is_file"]) -> bool:
    """Look at a path that may be no path at all."""
    with contextlib.suppress(OSError, ValueError):
        found: bool = getattr(path, kind)()
        return found
    return False
