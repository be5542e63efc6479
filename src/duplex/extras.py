"""Optional packages: named by the extra that brings them, with the command that installs it here.

The command depends on how duplex itself came here: from a clone, or as a wheel.
"""

import json
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from duplex.errors import MissingDependencyError

__all__ = ["install_command", "is_installed", "require"]

NAME = "duplex-speech"
CONSTRAINTS = "constraints.txt"


def require(extra: str, *modules: str, purpose: str) -> None:
    """Make sure that modules of an extra are installed.

    :raises MissingDependencyError: if one is not; ``purpose`` says who needs it ("the server")
    """
    for module in modules:
        if not is_installed(module):
            raise MissingDependencyError(f"{purpose} needs {module}; install it with: {install_command(extra)}")


def is_installed(module: str) -> bool:
    """Tell whether a module can be imported; it is not."""
    try:
        return find_spec(module) is not None
    except ValueError:  # what stands under its name has no specification: somebody has taken it away
        return bool(sys.modules[module])


def install_command(extra: str = "") -> str:
    """Return the command that installs an extra beside the duplex that runs."""
    wanted = f"[{extra}]" if extra else ""
    clone = _clone()
    if clone is None:
        return f"pip install '{NAME}{wanted}'"
    pins = clone / CONSTRAINTS  # without them pip looks through gigabytes of versions
    pinned = f"-c '{pins}' " if pins.is_file() else ""
    return f"pip install {pinned}-e '{clone}{wanted}'"


def _clone() -> Path | None:
    """Return the folder of the source tree that is imported, or None for an installed wheel."""
    root = Path(__file__).resolve().parent.parent.parent
    try:
        found = distribution(NAME)
    except PackageNotFoundError:
        return root if (root / "pyproject.toml").is_file() else None
    return _editable_folder(found)


def _editable_folder(found: Distribution) -> Path | None:
    try:
        origin: Any = json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    if not origin.get("dir_info", {}).get("editable", False):
        return None
    return Path(url2pathname(urlsplit(str(origin["url"])).path))
