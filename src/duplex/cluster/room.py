"""Room on the cluster: what a worker takes of a machine, whether one finds room now, and what it finds there."""

import math
import platform
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import attrs

import duplex
from duplex.cluster.connection import reason
from duplex.errors import ClusterError

__all__ = ["Share", "check_free", "look_there", "share_for", "workers_that_fit"]

BETWEEN_LOOKS = 0.5
"""Seconds."""


@attrs.frozen
class Share:
    """The cores and GPUs of one worker."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        """Return the share as people say it."""
        gpus = "" if not self.gpus else f" and {self.gpus:g} GPU{'s' * (self.gpus > 1)}"
        return f"{self.cpus:g} core{'s' * (self.cpus != 1)}{gpus}"


def share_for(device: str | None, usual: float | None, asked: float | None) -> Share:
    """Return what a worker takes: a GPU if its model may run on one and the cluster has some, or cores.

    :param device: the model's, ``None`` if there is none
    :param usual: the cores of a worker without a GPU, ``None`` for all of a machine
    :param asked: the cores that were asked for, ``None`` for what is usual
    """
    ray: Any = import_module("ray")
    there = ray.cluster_resources().get("GPU", 0) > 0
    if device is not None and device != "cpu" and (there or device != "auto"):
        return Share(1.0 if asked is None else asked, 1.0)
    if asked is not None or usual is not None:
        return Share(usual or 1.0 if asked is None else asked, 0.0)
    nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    return Share(max(1.0, min((each for each in nodes if each), default=1.0)), 0.0)


def workers_that_fit(share: Share) -> int:
    """Return how many workers the cluster's machines hold when nothing else runs there."""
    ray: Any = import_module("ray")
    return sum(_fitting(share, node["Resources"]) for node in ray.nodes() if node["Alive"])


def check_free(share: Share, count: int, wait: float) -> None:
    """Wait until so many workers find room.

    :raises ClusterError: if they do not within ``wait`` seconds
    """
    ray: Any = import_module("ray")
    until = time.monotonic() + wait
    while _fitting(share, ray.available_resources()) < count:
        if time.monotonic() >= until:
            raise ClusterError(_full(share, wait, count))
        time.sleep(BETWEEN_LOOKS)


def look_there(look: Callable[..., dict[str, Any]], share: Share, wait: float, *arguments: Any) -> dict[str, Any]:
    """Return what a function finds on a machine of the cluster, run with a worker's share.

    It is to tell duplex's ``version`` there, which is checked, among other things.

    :raises ClusterError: if there is no room within ``wait`` seconds, or the machine cannot do the work
    """
    ray: Any = import_module("ray")
    reference = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=1)(look).remote(*arguments)
    ready, _ = ray.wait([reference], timeout=wait)
    if not ready:
        ray.cancel(reference, force=True)
        raise ClusterError(_full(share, wait))
    try:
        found: dict[str, Any] = ray.get(reference)
    except Exception as error:  # Ray wraps what happened there, in many ways
        raise ClusterError(
            f"a worker cannot start ({reason(error)}); install duplex {duplex.__version__} with its extras, and "
            f"Python {platform.python_version()}, on each machine of the cluster"
        ) from error
    if found["version"] != duplex.__version__:
        raise ClusterError(
            f"the cluster's machines have duplex {found['version']}, and this one {duplex.__version__}; install the "
            "same on all"
        )
    return found


def _full(share: Share, wait: float, count: int = 1) -> str:
    """Return what is said of a cluster without room for so many workers."""
    ray: Any = import_module("ray")
    free, every = ray.available_resources(), ray.cluster_resources()
    told = f"{free.get('CPU', 0):g} of {every.get('CPU', 0):g} cores"
    if share.gpus:
        told += f" and {free.get('GPU', 0):g} of {every.get('GPU', 0):g} GPUs"
    who = "a worker takes" if count == 1 else f"each of {count} workers takes"
    return (
        f"the cluster is full: {who} {share}, and {told} are free after {wait:g} s; stop what runs there, "
        "wait longer with --ray-wait, or ask for less with --worker-cpus"
    )


def _fitting(share: Share, resources: Any) -> int:
    by_cores = resources.get("CPU", 0.0) / share.cpus if share.cpus else math.inf
    by_gpus = resources.get("GPU", 0.0) / share.gpus if share.gpus else math.inf
    fitting = min(by_cores, by_gpus)
    return 0 if math.isinf(fitting) else int(fitting)
