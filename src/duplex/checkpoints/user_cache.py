"""Where this package keeps what it can make again."""

import os
from pathlib import Path

__all__ = ["VARIABLE", "cache_folder"]

VARIABLE = "DUPLEX_CACHE"


def cache_folder() -> Path:
    """Return the folder, which need not be there: what the environment names, or ``~/.cache/duplex``."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else Path("~/.cache/duplex").expanduser()
