"""What is written down of a call beside its recording: log lines and metrics, from its arrival to its end."""

import logging

import anyio

from duplex.events import Lag
from duplex.server.admission import Refusal
from duplex.server.close_reasons import OF_REFUSAL, CloseReason
from duplex.server.logs import fields
from duplex.server.metrics import Metrics
from duplex.server.telemetry.protocol import CallTrace

__all__ = ["CallAccount"]

log: logging.Logger = logging.getLogger(__name__)


class CallAccount:
    """The account of a call that arrives now and of its ``trace``, of a token's ``owner``, "" where none is wanted."""

    def __init__(self, metrics: Metrics, owner: str, trace: CallTrace | None = None) -> None:
        self._metrics = metrics
        self._trace = trace
        self._told: dict[str, object] = {"owner": owner} if owner else {}
        """What logs tell of it."""
        if trace is not None and trace.trace_id is not None:
            self._told["trace"] = trace.trace_id
        self._arrived = anyio.current_time()
        self._began: float | None = None

    @property
    def began(self) -> bool:
        """Whether the conversation has begun."""
        return self._began is not None

    def begin(self, session_id: str, model: str, recording: str | None) -> None:
        """Note that the conversation begins, and the name of its recording."""
        self._began = anyio.current_time()
        self._metrics.queue_wait.observe(self._began - self._arrived)
        if self._trace is not None:
            self._trace.begin(session_id, model)
        self._told["session"] = session_id
        if recording is not None:
            self._told["recording"] = recording
        log.info("call started", extra=fields(**self._told, waited=round(self._began - self._arrived, 1)))

    def lag(self, event: Lag) -> None:
        """Count what was lost."""
        self._metrics.lag.labels(event.side).inc()
        self._metrics.dropped.labels(event.side).inc(event.dropped)
        if self._trace is not None:
            self._trace.lag(event)

    def refuse(self, refusal: Refusal) -> None:
        """Count a call that does not get a place."""
        self._metrics.refused.labels(refusal.value).inc()
        log.info("call refused", extra=fields(**self._told, reason=refusal.value))

    def end(self, ending: CloseReason) -> None:
        """Count the end of a call that was not refused."""
        if self._trace is not None:
            self._trace.end(ending.name.lower(), failed=ending.code == CloseReason.FAILED.code)
        if ending in OF_REFUSAL.values() and self._began is None:
            return
        reason, now = ending.name.lower(), anyio.current_time()
        self._metrics.ended.labels(reason).inc()
        if self._began is not None:
            self._metrics.call.observe(now - self._began)
        seconds = round(now - (self._began or self._arrived), 1)
        log.info("call ended", extra=fields(**self._told, reason=reason, seconds=seconds))
