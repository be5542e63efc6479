"""What the workers and the driver tell each other: how much has been heard, and whether it is enough."""

from collections import Counter
from importlib import import_module
from typing import Any

__all__ = ["Tally", "start_tally"]


class Tally:
    """An actor that adds up what the workers have heard and begun with, and passes on the driver's wish to stop."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._begun: Counter[str] = Counter()
        self._stopped = False

    def begin(self, block: str) -> int:
        """Note that a worker begins with a block, and return how often one has."""
        self._begun[block] += 1
        return self._begun[block]

    def report(self, worker: str, seconds: float) -> bool:
        """Take a worker's seconds so far, and tell whether it shall stop."""
        self._seconds[worker] = seconds
        return self._stopped

    def seconds(self) -> float:
        """Return what all workers have heard."""
        return sum(self._seconds.values())

    def stop(self) -> None:
        """Have every worker stop that reports from now on."""
        self._stopped = True


def start_tally() -> Any:
    """Start the actor, which takes no core; return its handle."""
    ray: Any = import_module("ray")
    return ray.remote(num_cpus=0)(Tally).remote()
