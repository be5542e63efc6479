"""Replicas as an application of Ray Serve's: deployed, watched while they start, and deleted.

No proxy of Ray Serve's is started, and a cluster that has some already does not use them for this.
"""

import logging
import re
import time
from importlib import import_module
from typing import Any

import attrs

from duplex.cluster.connection import reason
from duplex.cluster.room import Share
from duplex.cluster.serving.assignment import Assignment
from duplex.cluster.serving.registry import Registry
from duplex.cluster.serving.replica import NAMESPACE, Replica
from duplex.cluster.serving.scaling import DOWN_SECONDS, UP_SECONDS, scale
from duplex.errors import ClusterError

__all__ = ["Deployment"]

log: logging.Logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
HEALTH_SECONDS = 2.0
"""Between two looks of Ray Serve's at a replica; a process that ends is noticed at once."""
MARGIN_SECONDS = 30.0
"""That a replica may take to end after its last call."""
LOOK_BACK_SECONDS = 15.0
"""Over which Ray Serve takes the mean of what replicas tell; it is told every 10."""
_ERROR = re.compile(r"^\S*\b(?:\w+Error|ConsumerTooSlow): (.+)$", re.MULTILINE)


@attrs.frozen(kw_only=True)
class Deployment:
    """The replicas of one ingress, by a ``name`` that is theirs in the cluster."""

    name: str
    assignment: Assignment
    least: int
    most: int
    share: Share
    """What a replica takes of a machine."""
    lasting: bool
    """Whether replicas outlive the command, so that it can be given again."""

    def start_registry(self, secret: bytes) -> Any:
        """Return the registry, the one that is there or a new one."""
        ray: Any = import_module("ray")
        options = {"name": self._registry, "namespace": NAMESPACE, "get_if_exists": True, "num_cpus": 0}
        if self.lasting:
            options["lifetime"] = "detached"
        return ray.remote(Registry).options(**options, max_restarts=-1).remote(secret)

    @property
    def exists(self) -> bool:
        """Whether replicas of this name are there."""
        return self._told() is not None

    def deploy(self) -> None:
        """Have Ray Serve start the replicas, in place of those of an earlier command."""
        serve: Any = _serve()
        serve.start(proxy_location="Disabled")
        deployment = serve.deployment(Replica).options(
            name="replica",
            ray_actor_options={"num_cpus": self.share.cpus, "num_gpus": self.share.gpus},
            graceful_shutdown_timeout_s=self.assignment.grace + MARGIN_SECONDS,
            health_check_period_s=HEALTH_SECONDS,
            **self._count(),
        )
        target = serve.RunTarget(
            target=deployment.bind(self.assignment, self._registry), name=self.name, route_prefix=None
        )
        serve.run_many([target], wait_for_applications_running=False)

    def await_running(self) -> None:
        """Wait until the least number of replicas runs.

        :raises ClusterError: if they cannot start
        """
        while True:
            told = self._told()
            status = "" if told is None else str(getattr(told.status, "value", told.status))
            if status == "RUNNING":
                return
            if status == "DEPLOY_FAILED":
                raise ClusterError(f"the replicas do not start: {_why(told)}; see Ray's logs, or serve without --ray")
            time.sleep(POLL_SECONDS)

    def delete(self, seconds: float) -> None:
        """Have Ray Serve stop the replicas, and wait so many seconds for that."""
        serve: Any = _serve()
        serve.delete(self.name, _blocking=False)
        until = time.monotonic() + seconds
        while self._told() is not None and time.monotonic() < until:
            time.sleep(POLL_SECONDS)

    @property
    def _registry(self) -> str:
        return f"{self.name}-registry"

    def _count(self) -> dict[str, Any]:
        if self.least == self.most:
            return {"num_replicas": self.least}
        config: Any = import_module("ray.serve.config")
        return {
            "autoscaling_config": config.AutoscalingConfig(
                min_replicas=self.least,
                max_replicas=self.most,
                upscale_delay_s=UP_SECONDS,
                downscale_delay_s=DOWN_SECONDS,
                look_back_period_s=LOOK_BACK_SECONDS,
                policy=config.AutoscalingPolicy(policy_function=scale),
            )
        }

    def _told(self) -> Any:
        """Return what Ray Serve says of the replicas, ``None`` if it knows none."""
        told = _serve().status().applications.get(self.name)
        status = "" if told is None else str(getattr(told.status, "value", told.status))
        return None if status in {"", "NOT_STARTED"} else told


def _serve() -> Any:
    serve = import_module("ray.serve")
    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)  # which it sets itself when it is imported
    return serve


def _why(told: Any) -> str:
    """Return why replicas do not start, from the traces that Ray Serve keeps of them."""
    messages = [str(each.message) for each in told.deployments.values()] + [str(told.message)]
    found = [match for text in messages for match in _ERROR.findall(text)]
    return reason(RuntimeError(found[-1] if found else messages[0]))
