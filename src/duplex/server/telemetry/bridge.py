"""A registry of Prometheus as metrics of OpenTelemetry: the same counts under the same names.

They are read when they are sent, so that counting costs no more than it does without.
"""

import math
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import cast

import attrs
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

import duplex

__all__ = ["metrics_data"]

CUMULATIVE = AggregationTemporality.CUMULATIVE


@attrs.frozen
class _Moment:
    began: int
    """When counting began, in ns since 1970."""
    now: int


def metrics_data(registry: CollectorRegistry, resource: Resource, began: int) -> MetricsData:
    """Return what a registry has counted since ``began`` (ns since 1970), as exporters of OpenTelemetry take it."""
    moment = _Moment(began, time.time_ns())
    metrics = [metric for family in registry.collect() for metric in _metrics(family, moment)]
    scope = ScopeMetrics(InstrumentationScope("duplex", duplex.__version__), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metrics(family: Family, moment: _Moment) -> Iterable[Metric]:
    unit = "s" if family.name.endswith("_seconds") else "By" if family.name.endswith("_bytes") else "1"
    if family.type == "histogram":
        points = [_histogram(samples, moment) for samples in _by_labels(family).values()]
        yield Metric(family.name, family.documentation, unit, Histogram(points, CUMULATIVE))
    elif family.type == "counter":
        points = [_number(sample, moment) for sample in family.samples if sample.name.endswith("_total")]
        yield Metric(family.name, family.documentation, unit, Sum(points, CUMULATIVE, is_monotonic=True))
    else:  # gauges; of what is only told, the value is 1 and the labels say it
        name = f"{family.name}_info" if family.type == "info" else family.name
        points = [_number(sample, moment) for sample in family.samples]
        yield Metric(name, family.documentation, unit, Gauge(points))


def _number(sample: Sample, moment: _Moment) -> NumberDataPoint:
    return NumberDataPoint(dict(sample.labels), moment.began, moment.now, sample.value)


def _by_labels(family: Family) -> Mapping[frozenset[tuple[str, str]], list[Sample]]:
    """Return the samples of each histogram of a family."""
    grouped: dict[frozenset[tuple[str, str]], list[Sample]] = {}
    for sample in family.samples:
        labels = frozenset((name, value) for name, value in sample.labels.items() if name != "le")
        grouped.setdefault(labels, []).append(sample)
    return grouped


def _histogram(samples: Iterable[Sample], moment: _Moment) -> HistogramDataPoint:
    buckets: list[tuple[float, int]] = []
    labels: dict[str, str] = {}
    values = {"_sum": 0.0, "_count": 0.0}
    for sample in samples:
        if "le" in sample.labels:
            buckets.append((float(sample.labels["le"]), round(sample.value)))
        else:
            labels = dict(sample.labels)
            values |= {end: sample.value for end in values if sample.name.endswith(end)}
    buckets.sort()
    counts = [count for _, count in buckets]  # each with all below it
    return HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=moment.began,
        time_unix_nano=moment.now,
        count=round(values["_count"]),
        sum=values["_sum"],
        bucket_counts=[above - below for below, above in pairwise([0, *counts])],
        explicit_bounds=[bound for bound, _ in buckets if math.isfinite(bound)],
        min=cast("float", None),  # Prometheus does not keep them, and the protocol may leave them out
        max=cast("float", None),
    )
