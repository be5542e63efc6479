"""A replica as Ray Serve knows it: an actor with models and a server of its own. No request of Ray's reaches it."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from duplex.cluster.connection import LOOPBACK
from duplex.cluster.serving.assignment import Assignment
from duplex.cluster.serving.placing import Report, Standing
from duplex.cluster.serving.replica_server import ReplicaServer
from duplex.cluster.serving.scaling import CALLS, PLACES
from duplex.server.logs import configure_logging

__all__ = ["NAMESPACE", "Replica"]

log: logging.Logger = logging.getLogger(__name__)

NAMESPACE = "duplex"
"""Ray's namespace of registries."""
ANSWER_SECONDS = 2.0
"""That the registry may take."""


class Replica:
    """Holds what the assignment says; ``registry`` is the name of the registry that it tells how it is.

    :raises DuplexError: if a model cannot be loaded, or the server cannot listen
    """

    def __init__(self, assignment: Assignment, registry: str) -> None:
        self._open = ExitStack()
        _keep_calls_of_handles_here()
        ray: Any = import_module("ray")
        serve: Any = import_module("ray.serve")
        with contextlib.suppress(OSError):
            os.chdir(assignment.folder)
        configure_logging(assignment.log_format)
        self._registry_name = registry
        self._registry: Any = ray.get_actor(registry, namespace=NAMESPACE)
        self._name = str(serve.get_replica_context().replica_id.unique_id)
        secret: bytes = ray.get(self._registry.secret.remote())
        settings, listening = assignment.at(str(ray.util.get_node_ip_address()))
        with ExitStack() as opened:
            held = opened.enter_context(assignment.loading.opened())
            self._server = ReplicaServer(held, settings, listening, name=self._name, secret=secret)
            self._serving = opened.enter_context(self._server.running(self._tell))
            self._open = opened.pop_all()

    def check_health(self) -> None:
        """Tell Ray Serve whether the replica is to be started anew.

        :raises RuntimeError: if its server has ended, or a model answers no longer
        """
        state = self._server.report().state
        if self._serving.done() or state in {"stalled", "closed"}:
            raise RuntimeError(f"the replica's server has ended, or its model is {state}")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell Ray Serve what :func:`duplex.cluster.serving.scaling.scale` decides on."""
        calls, places = self._server.load()
        return {CALLS: float(calls), PLACES: float(places)}

    def __del__(self) -> None:
        """Wait for the calls, and end: Ray Serve calls this when the replica is to go, within its time-out."""
        self._open.close()
        with contextlib.suppress(Exception):  # the cluster may be gone as well
            self._registry.leave.remote(self._name)

    async def _tell(self, report: Report) -> Standing | None:
        """Tell the registry; one that is gone is looked for anew."""
        ray: Any = import_module("ray")
        try:
            asked = asyncio.wrap_future(self._registry.report.remote(report).future())
            return await asyncio.wait_for(asked, ANSWER_SECONDS)
        except Exception as error:  # noqa: BLE001 -- Ray wraps what happened there, in many ways
            log.debug("the registry does not answer: %s", error)
        with contextlib.suppress(Exception):
            self._registry = await asyncio.to_thread(ray.get_actor, self._registry_name, namespace=NAMESPACE)
        return None


def _keep_calls_of_handles_here() -> None:
    """Have the server through which Ray Serve's handles call a replica listen on the loopback address alone.

    It is started after the replica, on all addresses, lets everybody in and takes pickles. Nothing here calls it.
    """
    server: Any = import_module("grpc.aio._server").Server
    for name in ("add_insecure_port", "add_secure_port"):
        setattr(server, name, _at_loopback(getattr(server, name)))


def _at_loopback(add_port: Callable[..., int]) -> Callable[..., int]:
    def add_port_here(server: Any, address: str, *credentials: Any) -> int:
        return add_port(server, f"{LOOPBACK}:{address.rpartition(':')[2]}", *credentials)

    return add_port_here
