"""Room for a batch: the share of its workers, how many there can be, and whether one can do the work."""

import pickle
import platform
from typing import Any

import duplex
from duplex.cluster.batch.job import Job
from duplex.cluster.batch.worker import Task
from duplex.cluster.room import Share, look_there, share_for, workers_that_fit
from duplex.errors import ClusterError, DuplexError

__all__ = ["check_room", "share_of", "workers_for"]


def share_of(job: Job, cpus: float | None) -> Share:
    """Return what a worker takes; ``cpus`` are the cores that were asked for, ``None`` for what suits the job."""
    return share_for(job.device, job.cpus, cpus)


def workers_for(share: Share, wanted: int | None, blocks: int) -> int:
    """Return how many workers there shall be: as many as were asked for, or fit, but none without anything to do."""
    return max(1, min(workers_that_fit(share) if wanted is None else wanted, blocks))


def check_room(task: Task, share: Share, sign: str | None, wait: float) -> Job:
    """Wait until there is room for a worker, look around there, and return the job as it is there.

    :param sign: the name of a file that is in the folder of results, if that is one
    :raises ClusterError: if there is no room within ``wait`` seconds, or the machine cannot do the work
    :raises DuplexError: if the model cannot run there
    """
    found = look_there(look_around, share, wait, pickle.dumps(task), sign)
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
