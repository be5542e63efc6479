"""What a server counts and times, for Prometheus."""

from collections.abc import Mapping, Sequence

import anyio
import attrs
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from duplex.engine.model import Model
from duplex.engine.results import Observer
from duplex.engine.time_line import PendingFrame
from duplex.server.admission import Refusal
from duplex.server.close_reasons import OF_REFUSAL, CloseReason

__all__ = ["Metrics"]

_MODEL = ("model",)
_FRAME_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.4, 0.8, 1.6)
_LOOP_EVERY = 0.05
_LOOP_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.05, 0.1, 0.5)
_WAIT_SECONDS = (0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
_CALL_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 3600, 7200)
_STAGE_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@attrs.frozen(eq=False)
class _StepObserver:
    step: Histogram
    batch: Gauge
    frame: Histogram

    def stepped(self, began: float, ended: float, frames: Sequence[PendingFrame]) -> None:
        """Count a step of the model, and how long each of its frames waited for its answer."""
        self.step.observe(ended - began)
        self.batch.set(len(frames))
        for frame in frames:
            self.frame.observe(ended - frame.since)


class Metrics:
    """A server's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self.registry: CollectorRegistry = CollectorRegistry()
        own = self.registry
        ProcessCollector(registry=own)  # processor time, memory, descriptors, when it started
        self.build: Info = Info("duplex_build", "What this server consists of.", registry=own)
        self.model: Info = Info("duplex_model", "A model of this server.", ("model",), registry=own)
        self.places: Gauge = Gauge("duplex_places", "Conversations that may go on side by side.", _MODEL, registry=own)
        self.answers: Gauge = Gauge(
            "duplex_model_answers", "Whether a model answers: 1, or 0 if it is stalled or closed.", _MODEL, registry=own
        )
        self.queue_wait: Histogram = Histogram(
            "duplex_queue_wait_seconds", "How long callers waited for a place.", buckets=_WAIT_SECONDS, registry=own
        )
        self.call: Histogram = Histogram(
            "duplex_call_seconds", "How long conversations went on.", buckets=_CALL_SECONDS, registry=own
        )
        self.sessions: Gauge = Gauge("duplex_sessions", "Conversations that go on.", _MODEL, registry=own)
        self.queue: Gauge = Gauge("duplex_queue", "Callers who wait for a place.", _MODEL, registry=own)
        self.ended: Counter = Counter("duplex_calls_ended", "Calls that ended, by reason.", ("reason",), registry=own)
        self.refused: Counter = Counter(
            "duplex_calls_refused", "Callers who were sent away, by reason.", ("reason",), registry=own
        )
        self.resumed: Counter = Counter("duplex_calls_resumed", "Times that a caller has come back.", registry=own)
        self.resume_refused: Counter = Counter(
            "duplex_resumptions_refused",
            "Callers who wanted to come back and could not, by reason.",
            ("reason",),
            registry=own,
        )
        self.unmovable: Counter = Counter(
            "duplex_states_not_kept", "Times that the store did not take a conversation.", registry=own
        )
        self.step: Histogram = Histogram(
            "duplex_step_seconds", "One step of a model.", _MODEL, buckets=_FRAME_SECONDS, registry=own
        )
        self.batch: Gauge = Gauge("duplex_step_sessions", "Conversations in the last step.", _MODEL, registry=own)
        self.frame: Histogram = Histogram(
            "duplex_frame_latency_seconds",
            "From a whole frame of the user's to its answer, without coding.",
            _MODEL,
            buckets=_FRAME_SECONDS,
            registry=own,
        )
        stage = Histogram(
            "duplex_stage_seconds", "Coding of one piece of audio.", ("stage",), buckets=_STAGE_SECONDS, registry=own
        )
        self.stages: Mapping[str, Histogram] = {name: stage.labels(name) for name in ("decode", "encode")}
        self.loop_delay: Histogram = Histogram(
            "duplex_event_loop_delay_seconds",
            "How late the event loop is.",
            buckets=_LOOP_SECONDS,
            registry=own,
        )
        self.lag: Counter = Counter("duplex_lag_events", "Times that real time was lost.", ("side",), registry=own)
        self.dropped: Counter = Counter(
            "duplex_dropped_audio_seconds", "Audio that was dropped for it.", ("side",), registry=own
        )
        self.damaged: Counter = Counter(
            "duplex_damaged_packets", "Packets of audio that could not be decoded.", registry=own
        )
        self.lost_recordings: Counter = Counter(
            "duplex_recordings_lost", "Recordings that could not be written.", registry=own
        )
        self.recordings: Gauge = Gauge("duplex_recordings", "Recordings in the folder.", registry=own)
        self.recordings_bytes: Gauge = Gauge("duplex_recordings_bytes", "What they take of the disk.", registry=own)
        self.deleted_recordings: Counter = Counter(
            "duplex_recordings_deleted", "Recordings that were deleted, by why.", ("why",), registry=own
        )

        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Tell what has not happened yet: an increase is one from a value that was there before."""
        for reason in CloseReason:
            if reason not in OF_REFUSAL.values():
                self.ended.labels(reason.name.lower())
        for refusal in Refusal:
            self.refused.labels(refusal.value)
        for side in ("user", "agent", "transcript"):
            self.lag.labels(side)
            self.dropped.labels(side)

    def describe(self, name: str, model: Model) -> None:
        """Tell of a model of this server."""
        self.model.labels(name).info({"backend": model.backend, "device": model.device, "dtype": model.dtype})
        self.places.labels(name).set(model.sessions)
        self.sessions.labels(name).set(0)
        self.queue.labels(name).set(0)

    def observer(self, name: str) -> Observer:
        """Return what counts the steps of a model."""
        return _StepObserver(self.step.labels(name), self.batch.labels(name), self.frame.labels(name))

    async def watch_loop(self) -> None:
        """Measure, for ever, how late the event loop is."""
        while True:
            due = anyio.current_time() + _LOOP_EVERY
            await anyio.sleep(_LOOP_EVERY)
            self.loop_delay.observe(anyio.current_time() - due)

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self.registry)
