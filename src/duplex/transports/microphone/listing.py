"""PortAudio's list of devices, made anew: it is made when PortAudio starts, which it cannot while a stream is open."""

import json
import subprocess
import sys
from typing import Any

__all__ = ["listed_anew"]

_PROGRAM = """
import json, sounddevice
print(json.dumps([list(sounddevice.default.device), list(sounddevice.query_devices())]))
"""
_SECONDS = 5.0


def listed_anew() -> tuple[tuple[int, int], list[dict[str, Any]]] | None:
    """Return the numbers of the default input and output, and the devices, as another process finds them.

    None where that fails: this program may run in an interpreter that cannot be started again.
    """
    if not sys.executable:
        return None
    try:
        run = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _PROGRAM],
            capture_output=True,
            timeout=_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        (default_input, default_output), found = json.loads(run.stdout)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None
    return (int(default_input), int(default_output)), list(found)
