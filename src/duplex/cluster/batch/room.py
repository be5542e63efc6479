"""Room on the cluster: what a worker takes of a machine, how many there can be, and whether one finds room now."""

import math
import pickle
import platform
from importlib import import_module
from typing import Any

import attrs

import duplex
from duplex.cluster.batch.connection import reason
from duplex.cluster.batch.job import Job
from duplex.cluster.batch.worker import Task
from duplex.errors import ClusterError, DuplexError

__all__ = ["Share", "check_room", "share_of", "workers_for"]


@attrs.frozen
class Share:
    """The cores and GPUs of one worker."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        """Return the share as people say it."""
        gpus = "" if not self.gpus else f" and {self.gpus:g} GPU{'s' * (self.gpus > 1)}"
        return f"{self.cpus:g} core{'s' * (self.cpus != 1)}{gpus}"


def share_of(job: Job, cpus: float | None) -> Share:
    """Return what a worker takes: a GPU if its model may run on one and the cluster has some, or cores.

    :param cpus: the cores that were asked for, ``None`` for what suits the job
    """
    ray: Any = import_module("ray")
    device = job.device
    there = ray.cluster_resources().get("GPU", 0) > 0
    if device is not None and device != "cpu" and (there or device != "auto"):
        return Share(1.0 if cpus is None else cpus, 1.0)
    if cpus is not None or job.cpus is not None:
        return Share(job.cpus or 1.0 if cpus is None else cpus, 0.0)
    nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    return Share(max(1.0, min((each for each in nodes if each), default=1.0)), 0.0)


def workers_for(share: Share, wanted: int | None, blocks: int) -> int:
    """Return how many workers there shall be: as many as were asked for, or fit, but none without anything to do."""
    ray: Any = import_module("ray")
    if wanted is None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        wanted = sum(_fitting(share, node) for node in nodes)
    return max(1, min(wanted, blocks))


def check_room(task: Task, share: Share, sign: str | None, wait: float) -> Job:
    """Wait until there is room for a worker, look around there, and return the job as it is there.

    :param sign: the name of a file that is in the folder of results, if that is one
    :raises ClusterError: if there is no room within ``wait`` seconds, or the machine cannot do the work
    :raises DuplexError: if the model cannot run there
    """
    ray: Any = import_module("ray")
    look = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=1)(look_around)
    reference = look.remote(pickle.dumps(task), sign)
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
    if not found["sees"]:
        raise ClusterError(
            f"{found['host']} does not see {task.place.shown}; give an --out that all machines of the cluster share, "
            "or an address in an object store"
        )
    if isinstance(found["job"], DuplexError):
        raise found["job"]
    return found["job"]


def look_around(packed: bytes, sign: str | None) -> dict[str, Any]:
    """Return what a worker would find on this machine; it runs there, with a worker's share."""
    task: Task = pickle.loads(packed)  # noqa: S301 -- the driver's
    task.enter()
    job: Job | DuplexError
    try:
        job = task.job.check()
    except DuplexError as error:
        job = error
    return {
        "version": duplex.__version__,
        "host": platform.node(),
        "sees": sign is None or task.place.sees(sign),
        "job": job,
    }


def _fitting(share: Share, node: Any) -> int:
    by_cores = node.get("CPU", 0.0) / share.cpus if share.cpus else math.inf
    by_gpus = node.get("GPU", 0.0) / share.gpus if share.gpus else math.inf
    fitting = min(by_cores, by_gpus)
    return 0 if math.isinf(fitting) else int(fitting)


def _full(share: Share, wait: float) -> str:
    ray: Any = import_module("ray")
    free, every = ray.available_resources(), ray.cluster_resources()
    told = f"{free.get('CPU', 0):g} of {every.get('CPU', 0):g} cores"
    if share.gpus:
        told += f" and {free.get('GPU', 0):g} of {every.get('GPU', 0):g} GPUs"
    return (
        f"the cluster is full: a worker takes {share}, and {told} are free after {wait:g} s; stop what runs there, "
        "wait longer with --ray-wait, or ask for less with --worker-cpus"
    )
