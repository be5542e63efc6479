"""How many replicas there shall be, on calls that talk and wait. A policy of Ray Serve's, run by its controller.

As many as let 70 % of all places be taken: a step of a model costs nearly the same half full, so a replica is worth its
machine only when it is, and the rest is for those who come while another one loads its model. Ray Serve keeps to the
bounds, and waits before it acts (``UP_SECONDS``, ``DOWN_SECONDS``).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["CALLS", "DOWN_SECONDS", "PLACES", "UP_SECONDS", "scale", "wanted"]

CALLS, PLACES = "calls", "places"
"""Names of what replicas tell Ray Serve."""
TARGET = 0.7
"""Share of places that is aimed at."""
UP_SECONDS = 10.0
"""That more must have been wanted, before a replica is started."""
DOWN_SECONDS = 600.0
"""That fewer must have been wanted, before one is stopped."""


def wanted(calls: Iterable[float], places: Iterable[float]) -> int | None:
    """Return how many replicas hold these calls, by what each of them tells; ``None`` if nothing is known."""
    most = max(places, default=0.0)
    return math.ceil(sum(calls) / (TARGET * most)) if most else None


def scale(context: Any) -> tuple[int, dict[str, Any]]:
    """Return the number of replicas for an ``AutoscalingContext`` of Ray Serve's."""
    told: Mapping[str, Mapping[Any, float]] = context.aggregated_metrics or {}
    replicas = wanted(told.get(CALLS, {}).values(), told.get(PLACES, {}).values())
    return (context.target_num_replicas if replicas is None else max(1, replicas)), {}
