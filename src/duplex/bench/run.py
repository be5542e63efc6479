"""One run of measurements, into a report."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import anyio
import attrs

from duplex.bench.codec import time_codec
from duplex.bench.cold_start import start_cold
from duplex.bench.frame import time_contexts, time_frame, time_sessions
from duplex.bench.latency import measure_latency
from duplex.bench.machine import this_machine
from duplex.bench.original import time_original
from duplex.bench.report import Report
from duplex.checkpoints import checkpoint
from duplex.checkpoints.layout import Part
from duplex.engine.model import Model, load, load_codec, predict_memory
from duplex.errors import MissingDependencyError, UsageError

__all__ = ["Wanted", "measure"]

Stage = Literal["all", "mimi", "frame"]


@attrs.frozen(kw_only=True)
class Wanted:
    """What is to be measured.

    ``context`` frames lie behind each session. ``sweep`` times more and more sessions, and one with more and more
    behind it; ``original`` is the python of an environment with the original package.

    :raises UsageError: if parts of it do not go together
    """

    stage: Stage = "all"
    frames: int = 100
    context: int = 0
    sweep: bool = False
    latency: bool = False
    original: Path | None = None

    def __attrs_post_init__(self) -> None:
        if self.stage == "mimi" and (self.sweep or self.latency):
            raise UsageError("sweep and latency need the whole model, not its codec alone; choose another stage")


def measure(choice: dict[str, Any], wanted: Wanted, *, progress: Callable[[str], None] = lambda _: None) -> Report:
    """Measure a model that is loaded by ``choice``, :func:`duplex.load`'s arguments.

    ``progress`` is told what is being measured.

    :raises CheckpointError: as :func:`duplex.load` does
    """
    report = Report(machine=this_machine(), model=choice)
    if wanted.stage == "mimi":
        progress("the codec")
        place = {key: choice[key] for key in ("name", "backend", "device", "quantize", "revision")}
        report.mimi = time_codec(load_codec(**place), wanted.frames)
    else:
        described = checkpoint.describe(choice["name"], choice["revision"])
        kept = {key: value for key, value in choice.items() if key not in {"name", "revision", "deterministic"}}
        report.memory = predict_memory(described, **kept)
        progress("loading")
        with load(**choice) as model:
            _time(report, model, wanted, progress)
        progress("a cold start")  # last: what cannot be loaded has been told by its own error
        report.cold_start = start_cold(choice)
    if wanted.original is not None:
        progress("the original")
        _time_original(report, choice, wanted.original, wanted)
    return report


def _time(report: Report, model: Model, wanted: Wanted, progress: Callable[[str], None]) -> None:
    """Time a loaded model."""
    frame_model, frames, context = model.frame_model, wanted.frames, wanted.context
    options = attrs.evolve(model.defaults, seed=0)
    if wanted.stage == "all":
        progress("the codec")
        report.mimi = time_codec(model.codec, frames)
    progress("whole frames")
    report.frame = time_frame(frame_model, options, sessions=model.sessions, context=context, frames=frames)
    if wanted.sweep:
        progress("more and more sessions")
        report.sessions = time_sessions(frame_model, options, _ladder(model.sessions), context=context, frames=frames)
        progress("more and more context")
        report.contexts = time_contexts(frame_model, options, frames=frames)
    if wanted.latency:
        progress("latency")
        report.latency.append(anyio.run(measure_latency, model, frames))
        try:
            report.latency.append(anyio.run(measure_latency, model, frames, "websocket"))
        except MissingDependencyError:
            progress("no server is installed, so none is measured")


def _ladder(sessions: int) -> Iterator[int]:
    """Yield 1, 2, 4, ... and ``sessions``."""
    few = 1
    while few < sessions:
        yield few
        few *= 2
    yield sessions


def _time_original(report: Report, choice: dict[str, Any], python: Path, wanted: Wanted) -> None:
    codec_only = wanted.stage == "mimi"
    parts: tuple[Part, ...] = ("codec",) if codec_only else ("model", "codec")
    on_gpu = choice["device"].startswith("cuda") or (choice["device"] == "auto" and report.machine.gpu is not None)
    report.original = time_original(
        python,
        checkpoint.resolve(choice["name"], revision=choice["revision"], parts=parts),
        frames=wanted.frames,
        device="cuda" if on_gpu else "cpu",
        dtype=choice["dtype"] if choice["dtype"] != "auto" else "bfloat16" if on_gpu else "float32",
        codec_only=codec_only,
    )
