"""Recordings on a Ray cluster: what ``process``, ``measure`` and ``score`` do, on many machines, or on one.

    from duplex.cluster.batch import Cluster, ProcessJob, run

    job = ProcessJob.for_model("tiny", sessions=4)
    result = run(job, ["recordings"], "out", cluster=Cluster(address="auto"))
    print(result.done, result.failed, result.table)

It needs the extra ``ray``. :func:`run` blocks; jobs are plain values, which are sent to the workers.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
