"""The report of one benchmark run."""

from collections.abc import Mapping
from typing import Any

import attrs

from duplex.backends.shared.memory import Memory
from duplex.bench.codec import CodecTimes
from duplex.bench.cold_start import ColdStart
from duplex.bench.frame import FrameTimes
from duplex.bench.latency import LatencyTimes
from duplex.bench.machine import Machine
from duplex.bench.original import OriginalTimes

__all__ = ["BenchmarkReport"]


@attrs.define(kw_only=True)
class BenchmarkReport:
    """The measurements that were requested; the rest is ``None`` or empty. ``model`` has the arguments of loading.

    ``products`` says how weights are laid out on a CPU, where that was chosen.
    """

    machine: Machine
    model: dict[str, Any]
    products: Mapping[str, str] = attrs.Factory(dict[str, str])
    mimi: CodecTimes | None = None
    frame: FrameTimes | None = None
    memory: Memory | None = None
    cold_start: ColdStart | None = None
    sessions: list[FrameTimes] = attrs.Factory(list[FrameTimes])
    contexts: list[FrameTimes] = attrs.Factory(list[FrameTimes])
    latency: list[LatencyTimes] = attrs.Factory(list[LatencyTimes])
    original: OriginalTimes | None = None

    @property
    def real_time_sessions(self) -> int:
        """The largest number of sessions that was timed and ran in real time."""
        return max((times.sessions for times in self.sessions if times.real_time), default=0)

    @property
    def against_original(self) -> float | None:
        """Our time per session and frame, or of the codec alone, relative to the original's."""
        if self.original is None:
            return None
        if self.frame is not None:
            return self.frame.total.median / self.frame.sessions / self.original.total.median
        return None if self.mimi is None else self.mimi.both.median / self.original.total.median

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values, without what was not measured."""
        result: dict[str, Any] = {"machine": self.machine.as_json(), "model": self.model}
        if self.products:
            result["products"] = dict(self.products)
        for name in ("mimi", "frame", "cold_start", "original"):
            part: Any = getattr(self, name)
            if part is not None:
                result[name] = part.as_json()
        if self.memory is not None:
            result["predicted_memory_bytes"] = self.memory.total
        for name in ("sessions", "contexts", "latency"):
            parts: list[Any] = getattr(self, name)
            if parts:
                result[name] = [part.as_json() for part in parts]
        if self.against_original is not None:
            result["against_original"] = round(self.against_original, 3)
        if self.sessions:
            result["real_time_sessions"] = self.real_time_sessions
        return result
