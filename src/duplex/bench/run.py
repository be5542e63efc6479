"""A benchmark run, from options to a report."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import anyio
import attrs

from duplex.bench.codec import time_codec
from duplex.bench.cold_start import measure_cold_start
from duplex.bench.frame import time_contexts, time_frame, time_sessions
from duplex.bench.latency import measure_latency
from duplex.bench.machine import this_machine
from duplex.bench.original import time_original
from duplex.bench.report import BenchmarkReport
from duplex.checkpoints import checkpoint
from duplex.checkpoints.layout import Part
from duplex.engine.loading import load, load_codec, predict_memory
from duplex.engine.model import Model
from duplex.errors import MissingDependencyError, UsageError

__all__ = ["BenchmarkOptions", "run_benchmark"]

Stage = Literal["all", "mimi", "frame"]


@attrs.frozen(kw_only=True)
class BenchmarkOptions:
    """What to measure.

    Each session starts with ``context`` frames of context. ``sweep`` also measures increasing numbers of sessions and
    increasing context; ``original`` is the interpreter of an environment with the original package.

    :raises UsageError: if options exclude each other
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


def run_benchmark(
    choice: dict[str, Any], benchmark: BenchmarkOptions, *, progress: Callable[[str], None] = lambda _: None
) -> BenchmarkReport:
    """Measure the model that :func:`duplex.load` loads with the arguments ``choice``.

    ``progress`` is called with the name of each measurement.

    :raises CheckpointError: as :func:`duplex.load` does
    """
    report = BenchmarkReport(machine=this_machine(), model=choice)
    if benchmark.stage == "mimi":
        progress("the codec")
        place = {key: choice[key] for key in ("name", "backend", "device", "quantize", "revision")}
        codec = load_codec(**place)
        report.products = getattr(codec, "products", {})
        report.mimi = time_codec(codec, benchmark.frames)
    else:
        added = {key: choice.get(key) for key in ("adapter", "adapters")}
        described = checkpoint.describe(choice["name"], choice["revision"], **added)
        kept = {
            key: value
            for key, value in choice.items()
            if key not in {"name", "revision", "adapter", "adapters", "deterministic"}
        }
        report.memory = predict_memory(described, **kept)
        progress("loading")
        with load(**choice) as model:
            report.products = model.products
            _measure_model(report, model, benchmark, progress)
        progress("a cold start")  # last, so that a model that cannot be loaded fails with its own error
        report.cold_start = measure_cold_start(choice)
    if benchmark.original is not None:
        progress("the original")
        _measure_original(report, choice, benchmark.original, benchmark)
    return report


def _measure_model(
    report: BenchmarkReport, model: Model, benchmark: BenchmarkOptions, progress: Callable[[str], None]
) -> None:
    """Measure a loaded model."""
    frame_model, frames, context = model.frame_model, benchmark.frames, benchmark.context
    options = attrs.evolve(model.defaults, seed=0)
    if benchmark.stage == "all":
        progress("the codec")
        report.mimi = time_codec(model.codec, frames)
    progress("whole frames")
    report.frame = time_frame(frame_model, options, sessions=model.sessions, context=context, frames=frames)
    if benchmark.sweep:
        progress("more and more sessions")
        report.sessions = time_sessions(
            frame_model, options, _session_counts(model.sessions), context=context, frames=frames
        )
        progress("more and more context")
        report.contexts = time_contexts(frame_model, options, frames=frames)
    if benchmark.latency:
        progress("latency")
        report.latency.append(anyio.run(measure_latency, model, frames))
        try:
            report.latency.append(anyio.run(measure_latency, model, frames, "websocket"))
        except MissingDependencyError:
            progress("no server is installed, so none is measured")


def _session_counts(sessions: int) -> Iterator[int]:
    """Yield 1, 2, 4, ... and ``sessions``."""
    few = 1
    while few < sessions:
        yield few
        few *= 2
    yield sessions


def _measure_original(
    report: BenchmarkReport, choice: dict[str, Any], python: Path, benchmark: BenchmarkOptions
) -> None:
    codec_only = benchmark.stage == "mimi"
    parts: tuple[Part, ...] = ("codec",) if codec_only else ("model", "codec")
    on_gpu = choice["device"].startswith("cuda") or (choice["device"] == "auto" and report.machine.gpu is not None)
    report.original = time_original(
        python,
        checkpoint.resolve(choice["name"], revision=choice["revision"], parts=parts),
        frames=benchmark.frames,
        device="cuda" if on_gpu else "cpu",
        dtype=choice["dtype"] if choice["dtype"] != "auto" else "bfloat16" if on_gpu else "float32",
        codec_only=codec_only,
    )
