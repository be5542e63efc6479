"""The connection to a Ray cluster: one that is there, or one of this machine alone, for as long as it is needed.

An address is ``local`` (this machine, on the loopback address only), ``auto`` (the cluster that this machine is part
of) or ``HOST:PORT`` (the cluster's head, from one of its machines).
"""

import contextlib
import ipaddress
import logging
import os
import re
import secrets
import socket
import sys
import warnings
from collections.abc import Generator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from duplex.errors import ClusterError, MissingDependencyError, UsageError
from duplex.extras import install_command, require
from duplex.measuring.run import cores
from duplex.parsing import plain

__all__ = ["LOOPBACK", "LOWEST", "check_address", "connected", "reason", "require_ray"]

LOWEST = (2, 54)
"""The lowest version of Ray that has what is used: it waits before it does what a policy of ours wants to be scaled."""
LOOPBACK = "127.0.0.1"
NO_CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
STORE = 200_000_000
"""Bytes of Ray's object store on this machine: what passes it are paths and rows."""
PATIENCE = 5.0
"""Seconds within which a head has to answer."""
ATTEMPTS = 3
"""At the start of a cluster of this machine, of which Ray gives up each after some half a minute."""
LONGEST = 300
STDERR = 2
CLIENT = "ray://"


def check_address(address: str) -> None:
    """Check that an address is one.

    :raises UsageError: if it is not
    """
    if address.startswith(CLIENT):
        raise UsageError(
            f"{address} is an address of Ray's client, through which Ray Data does not run; on a machine of the "
            "cluster give auto or HOST:PORT, or send the command there with: ray job submit"
        )
    if address in {"local", "auto"}:
        return
    host, port = _parts(address)
    if not host or not 0 < port < 2**16:
        raise UsageError(f"{address!r} is no address of a Ray cluster; give local, auto, or HOST:PORT")


def require_ray() -> None:
    """Check that Ray is there, and that it is not too old.

    :raises MissingDependencyError: if not
    """
    require("ray", "ray", "pyarrow", "pandas", purpose="--ray")
    found = version("ray")
    numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
    if numbers < LOWEST:
        lowest = ".".join(str(number) for number in LOWEST)
        raise MissingDependencyError(
            f"--ray needs ray {lowest} or newer, and {found} is installed; install it with: {install_command('ray')}"
        )


@contextlib.contextmanager
def connected(address: str, *, verbose: bool = False) -> Generator[None]:
    """Be connected to a cluster; a program's own connection is used as it is, and left open.

    :param verbose: lets Ray write what it writes
    :raises UsageError: if the address is none
    :raises MissingDependencyError: if Ray is not installed, or too old
    :raises ClusterError: if nothing answers, or it does not want this driver
    """
    check_address(address)
    require_ray()
    # A thread that is late must not make Ray start a cluster of its own.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    if address == "local":
        _keep_to_itself()
    if not verbose:
        _hush()
    ray: Any = import_module("ray")
    if ray.is_initialized():
        yield
        return
    if address not in {"local", "auto"}:
        _check_reachable(address)
    try:
        with contextlib.nullcontext() if verbose else _silence():
            _start(ray, address, verbose=verbose)
    except Exception as error:  # Ray raises bare ones, too
        raise ClusterError(
            f"no Ray cluster can be used at {address} ({reason(error)}); start one with `ray start --head`, or give "
            "--ray local"
        ) from error
    try:
        _check_loopback(address, ray)
        yield
    finally:
        ray.shutdown()


def _start(ray: Any, address: str, *, verbose: bool) -> None:
    """Connect; a cluster of this machine is started again if it did not start in time, as on a machine that is busy."""
    for attempt in range(ATTEMPTS):
        try:
            ray.init(**_arguments(address, verbose=verbose))
        except Exception:
            ray.shutdown()
            if address != "local" or attempt + 1 == ATTEMPTS:
                raise
        else:
            return


def reason(error: BaseException) -> str:
    """Return the beginning of what a library says, on one line."""
    text = plain(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} ..."


def _arguments(address: str, *, verbose: bool) -> dict[str, Any]:
    quiet = {} if verbose else {"log_to_driver": False, "logging_level": logging.ERROR}
    if address != "local":
        return {"address": address, **quiet}
    return {
        "address": "local",
        "num_cpus": cores(),
        "include_dashboard": False,
        "object_store_memory": STORE,
        "_node_ip_address": LOOPBACK,
        **quiet,
    }


def _keep_to_itself() -> None:
    """Have a cluster of this machine listen on its loopback address alone, to those who know a token of its own.

    Ray takes an address of the network in place of the loopback one that it is given, and then listens on all of them,
    unless it is told what it takes for granted on systems where it has no clusters. It reads that when it is imported.
    """
    os.environ[NO_CLUSTER] = "0"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _check_loopback(address: str, ray: Any) -> None:
    """Make sure that a cluster of this machine alone is that."""
    node = str(ray.util.get_node_ip_address())
    if address == "local" and not ipaddress.ip_address(node).is_loopback:
        raise ClusterError(
            f"Ray was imported before, and would listen on {node}; set {NO_CLUSTER}=0 in the environment, or be "
            "connected to a cluster of your own"
        )


def _hush() -> None:
    """Keep Ray's remarks from between the lines of progress; errors are raised, and told by whoever called."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import_module("ray.data")  # it sets up its loggers when it is imported
    for name in ("ray", "ray.data", "ray.serve"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"ray\b")


@contextlib.contextmanager
def _silence() -> Generator[None]:
    """Keep from standard error what compiled code writes there past all loggers: how its level of logging was set."""
    sys.stderr.flush()
    kept = os.dup(STDERR)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), STDERR)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)


def _check_reachable(address: str) -> None:
    try:
        socket.create_connection(_parts(address), timeout=PATIENCE).close()
    except OSError as error:
        raise ClusterError(
            f"nothing answers at {address} ({error.strerror or error}); give the address that `ray start --head` told, "
            "or --ray local"
        ) from None


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) if port.isascii() and port.isdigit() else 0
