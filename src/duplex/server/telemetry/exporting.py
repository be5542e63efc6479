"""Traces and metrics over OTLP/HTTP, as OpenTelemetry's own environment variables say.

1. Something is exported when the environment names an endpoint (``OTEL_EXPORTER_OTLP_ENDPOINT``, or that of one signal)
   or an exporter (``OTEL_TRACES_EXPORTER``, ``OTEL_METRICS_EXPORTER``); ``none`` and ``OTEL_SDK_DISABLED`` keep it off.
2. A signal without an endpoint of its own goes where all go.
3. Telemetry never keeps a server from starting, and a collector that is gone never holds a call up: what cannot be done
   is told in the log.
"""

import logging
import os
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry

import duplex
from duplex.engine.results import Observer
from duplex.server.telemetry.bridge import metrics_data
from duplex.server.telemetry.signals import Signals
from duplex.server.telemetry.tracing import CallSpans, Tracing

__all__ = ["Exporting"]

log: logging.Logger = logging.getLogger(__name__)

EXPORT_MILLISECONDS = 10_000
CLOSE_SECONDS = 3.0
"""That the last export may take."""


class Exporting:
    """Exports the ``signals`` that are wanted; a :class:`duplex.server.telemetry.protocol.Telemetry`."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._resource = _resource(signals.instance)
        self._provider = TracerProvider(resource=self._resource, shutdown_on_exit=False) if signals.traces else None
        self._tracing = Tracing(self._provider or NoOpTracerProvider())

    @property
    def signals(self) -> Signals:
        """What is exported."""
        return self._signals

    def observer(self, model: str, *, alone: bool = False) -> Observer:
        """Return what samples the steps of a model, for the traces of calls, or alone as traces of their own."""
        return self._tracing.observer(model, alone=alone)

    def call(self, wire: str, headers: Mapping[str, str]) -> CallSpans:
        """Return the trace of a call that arrives now; ``headers`` may name a trace that it belongs to."""
        return self._tracing.call(wire, headers)

    @contextmanager
    def exporting(self, registry: CollectorRegistry) -> Generator[None]:
        """Export until the block ends, the metrics of a registry among it; what waits then is sent."""
        stop = threading.Event()
        threads: list[threading.Thread] = []
        if self._provider is not None:
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        if self._signals.metrics:
            threads.append(threading.Thread(target=self._export_metrics, args=(registry, stop), daemon=True))
        for thread in threads:
            thread.start()
        log.info("OpenTelemetry is told of %s", " and ".join(self._signals.names))
        try:
            yield
        finally:
            stop.set()
            if self._provider is not None:  # a thread, since a collector that is gone is tried again for long
                threads.append(threading.Thread(target=self._provider.shutdown, daemon=True))
                threads[-1].start()
            deadline = time.monotonic() + CLOSE_SECONDS
            for thread in threads:
                thread.join(max(deadline - time.monotonic(), 0.0))

    def _export_metrics(self, registry: CollectorRegistry, stop: threading.Event) -> None:
        """Send the metrics every so often, and once more at the end; the exporter logs what does not get there."""
        exporter, began, stopping = OTLPMetricExporter(), time.time_ns(), False
        while not stopping:
            stopping = stop.wait(self._signals.metric_seconds)
            exporter.export(  # pyright: ignore[reportUnknownMemberType] -- its **kwargs have no types
                metrics_data(registry, self._resource, began), timeout_millis=EXPORT_MILLISECONDS
            )
        exporter.shutdown()  # pyright: ignore[reportUnknownMemberType]


def _resource(instance: str) -> Resource:
    """Return what the server is: what the environment says, else what is known of it."""
    attributes = [part.partition("=") for part in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")]
    said = {name.strip() for name, equals, _ in attributes if equals}
    if os.environ.get("OTEL_SERVICE_NAME"):
        said.add("service.name")
    # The library would give each process an instance of its own.
    own = {"service.name": "duplex", "service.version": duplex.__version__, "service.instance.id": instance}
    return Resource.create().merge(Resource({name: value for name, value in own.items() if name not in said}))
