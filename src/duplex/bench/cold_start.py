"""From the start of a process to its first frame of audio, and the memory that the model then takes."""

import json
import subprocess
import sys
import time
from typing import Any

import attrs

from duplex.bench import first_audio
from duplex.errors import DuplexError

__all__ = ["ColdStart", "start_cold"]

MAIN = f"from {first_audio.__name__} import main; main()"


@attrs.frozen(kw_only=True)
class ColdStart:
    """Seconds, and the bytes that the model takes: of the device, or those that a CPU's process grew by."""

    total: float
    imports: float
    loading: float
    first_frame: float
    memory: int | None

    def as_json(self) -> dict[str, object]:
        """Return it as plain values."""
        return {
            "total_s": self.total,
            "import_s": self.imports,
            "load_s": self.loading,
            "first_frame_s": self.first_frame,
            "memory_bytes": self.memory,
        }


def start_cold(choice: dict[str, Any]) -> ColdStart:
    """Start a process that loads a model, by :func:`duplex.load`'s arguments, and speaks.

    :raises DuplexError: with what the process said, if it fails
    """
    command = [sys.executable, "-c", MAIN, json.dumps(choice)]
    began = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- this package itself
    total = time.perf_counter() - began
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise DuplexError(f"the process that starts cold failed: {last[0]}")
    told = json.loads(ended.stdout.splitlines()[-1])
    return ColdStart(
        total=round(total, 3),
        imports=told["import_s"],
        loading=told["load_s"],
        first_frame=told["first_frame_s"],
        memory=told["memory_bytes"],
    )
