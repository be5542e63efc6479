"""What a server with several fronts tells of all its processes together: metrics, and the steps of its models."""

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager

import attrs
from prometheus_client import CollectorRegistry, generate_latest

import duplex
from duplex.server.fronts.totals import Families, Family, families_of, of_front, registry_of, sum_of, without_gauges
from duplex.server.metrics import Metrics
from duplex.server.served_models import ServedModel
from duplex.server.telemetry.protocol import Telemetry
from duplex.server.telemetry.signals import Signals

__all__ = ["Whole"]


class Whole:
    """The metrics of a server; ``fronts`` returns what each of the fronts that run has told last, on any thread."""

    def __init__(
        self,
        served: Sequence[ServedModel],
        telemetry: Telemetry | None,
        fronts: Callable[[], Iterable[Families]],
    ) -> None:
        self.metrics: Metrics = Metrics()
        """Of the model's process."""
        self.metrics.build.info({"version": duplex.__version__})
        self.registry: CollectorRegistry = registry_of(self._families)
        """Has the metrics of all processes."""
        self._served = served
        self._telemetry = telemetry
        self._fronts = fronts
        self._gone: list[Family] = []
        """What fronts have counted that have ended."""
        self._changing = threading.Lock()
        """Held while a front leaves those that run, and while all are read, which exporters do on threads of theirs."""

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def signals_of_front(self) -> Signals | None:
        """Return what a front tells OpenTelemetry: the traces of its calls. Metrics are told once for all."""
        told = None if self._telemetry is None else self._telemetry.signals
        return attrs.evolve(told, metrics=False) if told is not None and told.traces else None

    def count(self, counts: Sequence[Sequence[int]]) -> None:
        """Note how many talk and wait, of each model."""
        for served, (talking, waiting, *_) in zip(self._served, counts, strict=True):
            self.metrics.sessions.labels(served.name).set(talking)
            self.metrics.queue.labels(served.name).set(waiting)

    @contextmanager
    def leaving(self, told: Families) -> Generator[None]:
        """Take what a front told last that leaves those that run in this block: it always counts once."""
        with self._changing:
            yield
            self._gone = sum_of((self._gone, without_gauges(of_front(told))))

    @contextmanager
    def observed(self) -> Generator[None]:
        """Count the steps of the models, and trace them if traces are wanted."""
        with ExitStack() as observed:
            for served in self._served:
                self.metrics.describe(served.name, served.model)
                observers = [self.metrics.observer(served.name)]
                if self._telemetry is not None:
                    observers.append(self._telemetry.observer(served.name, alone=True))
                for observer in observers:
                    observed.enter_context(served.model.seating.observed(observer))
            yield

    def _families(self) -> Families:
        for served in self._served:
            self.metrics.answers.labels(served.name).set(served.state not in {"stalled", "closed"})
        with self._changing:
            told = (self._gone, *map(of_front, self._fronts()))
        return sum_of((families_of(self.metrics.registry), *told))
