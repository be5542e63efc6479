"""Sources of a checkpoint's files: the package, a local folder, or a hub repository.

A name in ``config.json`` may be a file of the same checkpoint, ``hf://owner/name/file`` or ``file://path``.
"""

import contextlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, Protocol

import attrs

from duplex.checkpoints.hub import REPOSITORY, HubRepository
from duplex.errors import CheckpointNotFoundError, ConfigError, UsageError

__all__ = ["CONFIG", "CheckpointSource", "LocalFolder", "SourceKind", "builtin_names", "locate", "resolve_source"]

CONFIG = "config.json"
SourceKind = Literal["built in", "folder", "hub"]


class CheckpointSource(Protocol):
    """A place that a checkpoint's files are read from."""

    @property
    def origin(self) -> str:
        """The folder or repository, for messages."""
        ...

    def has(self, file: str) -> bool:
        """Return whether the file exists."""
        ...

    def fetch(self, file: str) -> Path:
        """Return the local path of a file, downloading it if needed.

        :raises CheckpointError: if it does not exist or cannot be downloaded
        """
        ...

    def record_revision(self) -> None:
        """Record in the download cache which commit was used; called once all files are on this machine."""
        ...


@attrs.frozen
class LocalFolder:
    """A checkpoint in a local folder."""

    folder: Path

    @property
    def origin(self) -> str:
        """The folder, for messages."""
        return str(self.folder)

    def has(self, file: str) -> bool:
        """Return whether the file exists."""
        return is_path(self.folder / PurePosixPath(file), "is_file")

    def fetch(self, file: str) -> Path:
        """Return the path of a file.

        :raises CheckpointNotFoundError: if it does not exist
        """
        if not self.has(file):
            raise CheckpointNotFoundError(f"{self.origin}: the file '{file}' is missing; download or copy it there")
        return self.folder / PurePosixPath(file)

    def record_revision(self) -> None:
        """Do nothing: a folder has no revisions."""


def locate(name: str, source: CheckpointSource, *, key: str, progress: bool) -> tuple[CheckpointSource, str]:
    """Return the source that a file name in ``config.json`` refers to, and the name there. ``key`` is for messages.

    :raises ConfigError: if the name points outside the checkpoint other than by ``hf://`` or ``file://``
    """
    if name.startswith("file://"):
        path = Path(name.removeprefix("file://"))
        return LocalFolder(path.parent), path.name
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
    """Return the names of the checkpoints that come with this package."""
    with contextlib.suppress(OSError):
        return sorted(folder.name for folder in _builtin_folder().iterdir() if (folder / CONFIG).is_file())
    return []


def _builtin_folder() -> Path:
    from importlib.resources import files  # noqa: PLC0415 -- takes 5 ms, which `import duplex` spares

    return Path(str(files("duplex"))) / "models"


def resolve_source(
    name: str, revision: str | None, *, progress: bool
) -> tuple[SourceKind, LocalFolder | HubRepository]:
    """Return the kind of source that a checkpoint's name refers to, and the source.

    A built-in name comes before a folder of the same name (which ``./name`` reaches), and a folder before the hub.

    :raises UsageError: if a revision is given of something that has none
    :raises CheckpointNotFoundError: if the name is none of these
    """
    name = str(name)
    builtin = name in builtin_names()
    folder = _builtin_folder() / name if builtin else expand_user(name)
    if builtin or (name.strip() and is_path(folder, "is_dir")):
        if revision is not None:
            raise UsageError(
                f"revision is '{revision}', but '{name}' is a folder; only hub repositories have revisions"
            )
        return ("built in" if builtin else "folder"), LocalFolder(folder)
    if name.strip() and is_path(folder, "is_file"):
        raise CheckpointNotFoundError(f"'{name}' is a file; give the folder of the checkpoint that it is in")
    if REPOSITORY.fullmatch(name):
        return "hub", HubRepository(name, revision, progress=progress)
    raise CheckpointNotFoundError(
        f"there is no model or folder '{name}'; built in: {', '.join(builtin_names()) or 'none'}; "
        "from the hub: owner/name, such as kyutai/moshika-pytorch-bf16"
    )


def expand_user(name: str) -> Path:
    with contextlib.suppress(RuntimeError):  # "~somebody", who is not known here
        return Path(name).expanduser()
    return Path(name)


def is_path(path: Path, kind: Literal["is_dir", "is_file"]) -> bool:
    """Return ``path.is_dir()`` or ``path.is_file()``, and false for strings that are not valid paths."""
    with contextlib.suppress(OSError, ValueError):
        found: bool = getattr(path, kind)()
        return found
    return False
