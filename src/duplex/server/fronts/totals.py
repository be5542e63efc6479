"""Metrics of several processes as those of one server.

1. What happens at a front (calls, sound, the event loop, processor time) is the sum over all processes.
2. What is of the whole (places, who talks, the models, recordings kept) is told by the model's process alone.
3. A front that has ended still counts, with what it told last: a counter never goes down. Gauges go with it.
4. Of moments (when a process started, when a counter was made) the earliest counts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["Families", "families_of", "of_front", "registry_of", "sum_of", "without_gauges"]

Sample: TypeAlias = tuple[str, Mapping[str, str], float]
Family: TypeAlias = tuple[str, str, str, Sequence[Sample]]
"""Name, documentation, type, samples."""
Families: TypeAlias = Sequence[Family]
_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]

OF_THE_WHOLE = frozenset(
    {
        *("duplex_build", "duplex_model", "duplex_places", "duplex_model_answers", "duplex_sessions", "duplex_queue"),
        *("duplex_step_sessions", "duplex_recordings", "duplex_recordings_bytes"),
    }
)
_MOMENTS = ("_created", "_start_time_seconds")


def families_of(registry: CollectorRegistry) -> list[Family]:
    """Return what a process's registry has, as a message can have it."""
    return [
        (each.name, each.documentation, each.type, [(one.name, one.labels, one.value) for one in each.samples])
        for each in registry.collect()
    ]


def of_front(families: Families) -> list[Family]:
    """Return what counts of a front: all but what is of the whole."""
    return [family for family in families if family[0] not in OF_THE_WHOLE]


def without_gauges(families: Families) -> list[Family]:
    """Return what still counts when a process has ended."""
    return [family for family in families if family[2] in ("counter", "histogram")]


def sum_of(processes: Iterable[Families]) -> list[Family]:
    """Return the metrics of several processes as those of one."""
    summed: dict[str, tuple[str, str, dict[_Key, float]]] = {}
    for families in processes:
        for name, documentation, kind, samples in families:
            _, _, into = summed.setdefault(name, (documentation, kind, {}))
            for sample, labels, value in samples:
                key = sample, tuple(labels.items())
                into[key] = _together(sample, into[key], value) if key in into else value
    return [
        (name, documentation, kind, [(sample, dict(labels), value) for (sample, labels), value in into.items()])
        for name, (documentation, kind, into) in summed.items()
    ]


def registry_of(families: Callable[[], Families]) -> CollectorRegistry:
    """Return a registry that has what is returned whenever it is read."""
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return registry


def _together(sample: str, one: float, other: float) -> float:
    return min(one, other) if sample.endswith(_MOMENTS) else one + other


def _metric(name: str, documentation: str, kind: str, samples: Sequence[Sample]) -> Metric:
    metric = Metric(name, documentation, kind)
    for sample, labels, value in samples:
        metric.add_sample(sample, dict(labels), value)
    return metric


class _Collected(Collector):
    def __init__(self, families: Callable[[], Families]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return (_metric(*family) for family in self._families())
