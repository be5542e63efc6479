"""Which store of conversations an address means."""

from pathlib import Path

from duplex.server.handover.folder_store import FolderStore
from duplex.server.handover.redis_store import SCHEMES, RedisStore
from duplex.server.handover.stores import StateStore

__all__ = ["open_store"]


def open_store(where: str | Path) -> StateStore:
    """Return the store at a folder, or at an address such as ``redis://host:6379/0``.

    :raises UsageError: if the address is none
    :raises MissingDependencyError: if the package ``redis`` is wanted and not installed
    :raises OutputError: if the folder cannot be written
    """
    scheme, mark, _ = str(where).partition("://")
    if isinstance(where, str) and mark and scheme in SCHEMES:
        return RedisStore(where)
    return FolderStore(Path(where))
