"""Benchmark of a cold start: time from process start to the first audio, and the model's memory."""

import json
import subprocess
import sys
import time
from typing import Any

import attrs

from duplex.bench import first_audio
from duplex.errors import DuplexError

__all__ = ["ColdStart", "measure_cold_start"]

MAIN = f"from {first_audio.__name__} import main; main()"


@attrs.frozen(kw_only=True)
class ColdStart:
    """Times in seconds, and the model's memory in bytes: on the device, or the growth of the process on a CPU."""

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


def measure_cold_start(choice: dict[str, Any]) -> ColdStart:
    """Start a process that loads a model, with :func:`duplex.load`'s arguments, and generates its first audio.

    :raises DuplexError: with the last line of the process's stderr, if it fails
    """
    command = [sys.executable, "-c", MAIN, json.dumps(choice)]
    began = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- this package itself
    total = time.perf_counter() - began
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise DuplexError(f"the process that starts cold failed: {last[0]}")
    result = json.loads(ended.stdout.splitlines()[-1])
    return ColdStart(
        total=round(total, 3),
        imports=result["import_s"],
        loading=result["load_s"],
        first_frame=result["first_frame_s"],
        memory=result["memory_bytes"],
    )
