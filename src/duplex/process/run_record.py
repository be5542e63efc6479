"""What ``run.json`` says of a recording, and hashes that tell contents apart."""

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any

import duplex
from duplex.errors import AudioFileError
from duplex.process.recordings import Recording
from duplex.process.sides import transcript_of

__all__ = ["beginning_of", "run_record", "sha256_of", "versions"]

BLOCK = 1 << 20


def run_record(
    recording: Recording,
    recipe: Mapping[str, Any],
    *,
    sha256: str,
    seconds: float,
    real_time_factor: float,
    cut_short: bool,
    beginning: Mapping[str, Any] | None = None,
    products: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the content of ``run.json``, but for the list of files.

    ``recipe`` is what :meth:`Recipe.as_json` gives; ``products`` are :attr:`duplex.Model.products`.
    """
    return {
        "input": recording.place,
        "sha256": sha256,
        **recipe,
        "versions": versions(),
        **({"products": dict(products)} if products else {}),
        "seconds": round(seconds, 6),
        "real_time_factor": round(real_time_factor, 4),
        "cut_short": cut_short,
        **({} if beginning is None else {"beginning": dict(beginning)}),
    }


def beginning_of(recording: Recording, begin_at: float | None) -> dict[str, Any] | None:
    """Return what was said before the model began, beside the recording's own content; ``None`` for nothing.

    :raises AudioFileError: if a file cannot be read
    """
    if begin_at is None:
        return None
    words = transcript_of(recording)
    return {
        "agent": None if recording.other is None else sha256_of(recording.other),
        "words": None if words is None else sha256_of(Recording(words, PurePath(words.name))),
    }


def versions() -> dict[str, str | None]:
    """Return the versions that results depend on."""
    return {
        "duplex": duplex.__version__,
        "torch": _version("torch"),
        "numpy": _version("numpy"),
        "python": platform.python_version(),
    }


def sha256_of(recording: Recording) -> str:
    """Return the hexadecimal SHA-256 of a recording's content.

    :raises AudioFileError: if it cannot be read
    """
    from duplex.audio.containers import open_recording  # noqa: PLC0415 -- it imports PyAV

    digest = hashlib.sha256()
    try:
        with open_recording(recording.path, recording.content) as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise AudioFileError(f"{recording.path} cannot be read: {error.strerror or error}; copy it again") from None
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
