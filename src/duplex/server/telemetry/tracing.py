"""Calls as traces of OpenTelemetry.

::

    duplex.call                  from the websocket to its end (the caller's trace, where ``traceparent`` names one)
    ├─ duplex.queue              until there is a place
    └─ duplex.conversation       while there is a session; an event for each loss of real time
       ├─ duplex.step            sampled: from a whole frame of the user's to its answer
       │  └─ duplex.model        the model's part of it
       └─ duplex.send            sampled: coding a frame of the agent's and handing it to the wire

Where calls are in other processes than the model, as with several fronts, nothing tells which of them had a frame in a
step: a sampled step is then a trace of its own, ``duplex.model``.

What is said, addresses, tokens and tickets are in none of them.
"""

import time
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider, set_span_in_context
from prometheus_client import CollectorRegistry

import duplex
from duplex.engine.results import Observer
from duplex.events import Lag
from duplex.frame_model import Frame
from duplex.server.telemetry.signals import Signals
from duplex.server.telemetry.steps import KEPT, SampledStep, StepFinder, StepSampler

__all__ = ["Tracing"]

NANOSECONDS = 1_000_000_000
STEP_SECONDS = 10.0
"""Between two sampled steps of a model, and two sampled frames on a wire."""
SLOW_SECONDS = 0.08
"""That a frame may wait for its answer; steps that take longer are sampled besides."""


class Tracing:
    """Makes the traces of calls; ``provider``, whose spans they are, exports them."""

    def __init__(self, provider: TracerProvider, *, step_seconds: float = STEP_SECONDS) -> None:
        self._tracer = provider.get_tracer("duplex", duplex.__version__)
        self._seconds = step_seconds
        self._kept: deque[SampledStep] = deque(maxlen=KEPT)

    def call(self, wire: str, headers: Mapping[str, str]) -> "CallSpans":
        """Return the trace of a call that arrives now; ``headers`` may name a trace that it belongs to."""
        return CallSpans(self._tracer, StepFinder(self._kept), wire, extract(headers), self._seconds)

    @property
    def signals(self) -> Signals | None:
        """Nothing: other processes have other providers."""
        return None

    def observer(self, model: str, *, alone: bool = False) -> Observer:
        """Return what samples the steps of a model, for the traces of calls, or alone as traces of their own."""
        keep = self._tell_step if alone else self._kept.append
        return StepSampler(model, keep, seconds=self._seconds, slow=SLOW_SECONDS)

    def exporting(self, registry: CollectorRegistry) -> AbstractContextManager[None]:  # noqa: ARG002 -- of a provider
        """Leave it to the provider."""
        return nullcontext()

    def _tell_step(self, step: SampledStep) -> None:
        began, ended = _since_1970(step.began, step.ended)
        span = self._tracer.start_span("duplex.model", Context(), start_time=began)
        span.set_attributes({**_told_of(step), "duplex.slow": step.slow})
        span.end(ended)


class CallSpans:
    """The spans of one call."""

    def __init__(self, tracer: Tracer, finder: StepFinder, wire: str, parent: Context, seconds: float) -> None:
        self._tracer = tracer
        self._finder = finder
        self._seconds = seconds
        self._call = tracer.start_span(
            "duplex.call",
            parent,
            SpanKind.SERVER,
            {"duplex.wire": wire, "network.protocol.name": "websocket"},
        )
        self._part = self._start("duplex.queue", self._call)
        """What of the call goes on: the wait, then the conversation."""
        self._talks = False
        self._send_due = 0
        self._lost = 0.0

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits, ``None`` if this call is not sampled."""
        context = self._call.get_span_context()
        return f"{context.trace_id:032x}" if context.trace_flags.sampled else None

    def begin(self, session_id: str, model: str) -> None:
        """Note that the wait is over and the conversation begins."""
        self._part.end()
        self._call.set_attributes({"duplex.session": session_id, "duplex.model": model})
        self._part = self._start("duplex.conversation", self._call)
        self._talks = True

    def record(self, frame: Frame) -> None:
        """Take a time step, to find the sampled steps of the model that it was in."""
        found = self._finder.find(frame)
        if found is None or not self._talks:
            return
        step, pending = found
        since, began, ended = _since_1970(pending.since, step.began, step.ended)
        whole = self._start("duplex.step", self._part, since)
        whole.set_attributes({"duplex.frame": pending.index, "duplex.slow": step.slow})
        inner = self._start("duplex.model", whole, began)
        inner.set_attributes(_told_of(step))
        inner.end(ended)
        whole.end(ended)

    def sent(self, began: int, size: int) -> None:
        """Note that a frame's audio has gone out in so many bytes; ``began`` (ns since 1970) is when coding began."""
        if began < self._send_due or not self._talks:
            return
        self._send_due = began + round(NANOSECONDS * self._seconds)
        span = self._start("duplex.send", self._part, began)
        span.set_attribute("duplex.bytes", size)
        span.end()

    def lag(self, event: Lag) -> None:
        """Note that real time was lost."""
        self._lost += event.dropped
        told = {"duplex.side": event.side, "duplex.dropped": event.dropped, "duplex.behind": event.behind}
        self._part.add_event("lag", told)

    def end(self, reason: str, *, failed: bool) -> None:
        """Note the end; whatever goes on ends with it."""
        self._call.set_attributes({"duplex.reason": reason, "duplex.dropped": self._lost})
        if failed:
            self._call.set_status(StatusCode.ERROR, reason)
        self._part.end()
        self._call.end()

    def _start(self, name: str, parent: Span, began: int | None = None) -> Span:
        return self._tracer.start_span(name, set_span_in_context(parent), start_time=began)


def _told_of(step: SampledStep) -> dict[str, str | int]:
    return {"duplex.model": step.model, "duplex.step.sessions": len(step.frames)}


def _since_1970(*times: float) -> tuple[int, ...]:
    """Return times of the monotonic clock in ns since 1970, as far from each other as they are."""
    apart = time.time_ns() - time.monotonic_ns()  # of another reading each, should the thread wait between the two
    return tuple(apart + round(NANOSECONDS * at) for at in times)
