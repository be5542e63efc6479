"""The processor's name."""

import functools
import platform
import subprocess
from pathlib import Path

__all__ = ["processor"]


@functools.cache
def processor() -> str:
    """Return the processor's name as the system gives it."""
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "Mac"  # noqa: S603 -- a fixed command
    return platform.processor() or platform.machine()
