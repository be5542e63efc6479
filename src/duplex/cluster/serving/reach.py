"""Where callers find a cluster, and whether they can reach what they are sent to."""

import logging
from importlib import import_module
from typing import Any

import attrs

from duplex.errors import UsageError
from duplex.server.certificate import unnamed_addresses
from duplex.server.listening import Listening
from duplex.server.settings import Settings, is_loopback

__all__ = ["check_machines", "check_reach", "origins", "with_port"]

log: logging.Logger = logging.getLogger(__name__)


def check_reach(address: str, listening: Listening) -> None:
    """Check that others are not let in to replicas that they cannot reach.

    :raises UsageError: if they would be
    """
    if address == "local" and not is_loopback(listening.host):
        raise UsageError(
            f"replicas of --ray local are reached from this machine alone, and on {listening.host} others would be "
            "sent to them; leave --host out, or begin a cluster (ray start --head) and give --ray auto"
        )


def check_machines(listening: Listening) -> None:
    """Check that callers can reach what they are sent to.

    :raises UsageError: if replicas on other machines would listen to these alone
    """
    ray: Any = import_module("ray")
    machines = {str(node["NodeManagerAddress"]) for node in ray.nodes() if node["Alive"]}
    if is_loopback(listening.host) and len(machines) > 1:
        raise UsageError(
            f"the cluster has {len(machines)} machines, and on {listening.host} a replica is reached from its own "
            "alone; give --host 0.0.0.0 with --token-file, or --ray local"
        )
    if listening.certificate is not None and not is_loopback(listening.host):
        unnamed = unnamed_addresses(listening.certificate, sorted(machines))
        if unnamed:
            log.warning(
                "the certificate is not good for %s, where callers are sent to replicas, and most will refuse it; give "
                "--tls-certificate and --tls-key of one that has these addresses",
                ", ".join(unnamed),
            )


def with_port(listening: Listening) -> Listening:
    """Return a place to listen at with a number in place of any port: replicas are told it."""
    if listening.port:
        return listening
    bound = listening.bind()
    try:
        return attrs.evolve(listening, port=bound.getsockname()[1])
    finally:
        bound.close()


def origins(settings: Settings, listening: Listening) -> "list[str]":
    """Return the origins that the ingress's page can have: others are given by ``--origin``."""
    ray: Any = import_module("ray")
    scheme = "http" if listening.certificate is None else "https"
    if is_loopback(listening.host):
        names = ["localhost", "127.0.0.1", "[::1]"]
    else:
        names = [name for name in settings.hosts if "*" not in name]
        names.append(str(ray.util.get_node_ip_address()))
    return [f"{scheme}://{name}:{listening.port}" for name in names]
