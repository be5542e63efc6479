"""A server on a cluster, from the first look at its room to the last call: :func:`serve_on_cluster`.

1. A look around where a replica would run: whether there is room, and the same version of duplex.
2. The registry, then the replicas; when the least number of them runs, the ingress listens.
3. SIGTERM or SIGINT: nobody is placed any more, replicas let their calls go on for at most ``drain`` seconds. A second
   one ends everything at once.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import anyio
import anyio.to_thread
import attrs

import duplex
from duplex.cluster.connection import connected
from duplex.cluster.room import Share, check_free, look_there, share_for
from duplex.cluster.serving.assignment import Assignment, Loading
from duplex.cluster.serving.deployment import Deployment
from duplex.cluster.serving.ingress import Ingress
from duplex.cluster.serving.reach import check_machines, check_reach, origins, with_port
from duplex.errors import UsageError
from duplex.server.listening import Listening, check_start
from duplex.server.logs import fields
from duplex.server.run import listen
from duplex.server.settings import Settings

__all__ = ["Replicas", "serve_on_cluster"]

log: logging.Logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""Between two looks at what replicas have told."""
ANSWER_SECONDS = 5.0
"""That the registry may take."""
TOLD_SECONDS = 1.5
"""In which every replica has heard of the end, and told how it is."""
END_SECONDS = 10.0
"""That replicas may take to end after their last calls."""


def _check_bounds(replicas: "Replicas", _: object, __: object) -> None:
    if not 1 <= replicas.least <= replicas.most:
        raise UsageError(
            f"replicas are {replicas.least}:{replicas.most}; give the least and the most, such as 2:8, from 1 on"
        )


@attrs.frozen(kw_only=True)
class Replicas:
    """How many replicas there are to be, on which cluster, and what each takes of a machine.

    ``address`` is ``"local"`` (this machine, reached on its loopback address only), ``"auto"`` or ``"HOST:PORT"``.
    A replica takes a GPU and a core where its ``device`` may be one, or ``cpus`` cores, or else ``usual_cpus``, all of
    a machine if that is ``None``. ``wait`` is for how many seconds there may be no room. ``verbose`` lets Ray write
    what it writes.

    :raises UsageError: if there would be none, or fewer at most than at least
    """

    address: str = "local"
    least: int = 1
    most: int = attrs.field(default=1, validator=_check_bounds)
    device: str = "auto"
    cpus: float | None = None
    usual_cpus: float | None = 1.0
    wait: float = 60.0
    verbose: bool = False


def serve_on_cluster(
    loading: Loading,
    replicas: Replicas,
    settings: Settings,
    listening: Listening,
    *,
    log_format: Literal["text", "json"] = "text",
    started: Callable[[int], None] | None = None,
) -> None:
    """Serve on a cluster until SIGTERM or SIGINT. Blocking. ``started`` is told the port of the ingress.

    ``loading`` gives each replica its models: :class:`duplex.cluster.serving.Loading`, for models that have a name.

    :raises UsageError: if others could reach the server and no token is wanted, or would reach but a part of it
    :raises MissingDependencyError: if Ray is not installed, or too old
    :raises ClusterError: if the cluster is out of reach or full, or replicas do not start
    :raises ServerError: if the address is taken, or the certificate cannot be read
    """
    check_start(settings, listening)
    check_reach(replicas.address, listening)
    with connected(replicas.address, verbose=replicas.verbose):
        check_machines(listening)
        share = share_for(replicas.device, replicas.usual_cpus, replicas.cpus)
        look_there(_look_around, share, replicas.wait)
        bound = with_port(listening)
        deployment = Deployment(
            name=f"duplex-{bound.port}",
            assignment=Assignment(
                loading=loading,
                settings=settings,
                listening=bound,
                origins=tuple(origins(settings, bound)),
                log_format=log_format,
            ),
            least=replicas.least,
            most=replicas.most,
            share=share,
            lasting=replicas.address != "local",
        )
        _run(deployment, share, replicas.wait, started)


def _run(deployment: Deployment, share: Share, wait: float, started: Callable[[int], None] | None) -> None:
    ray: Any = import_module("ray")
    if not deployment.exists:
        check_free(share, deployment.least, wait)
    registry = deployment.start_registry(secrets.token_bytes(32))
    secret: bytes = ray.get(registry.secret.remote())
    ray.get(registry.stop.remote(None))
    try:
        deployment.deploy()
        deployment.await_running()
        uvloop = {"use_uvloop": find_spec("uvloop") is not None}
        anyio.run(_Door(deployment, registry, secret).serve, started, backend_options=uvloop)
    finally:
        if deployment.exists:  # they have not started, or their end was not waited for
            ray.get(registry.stop.remote(0.0))
            deployment.delete(END_SECONDS)
        ray.kill(registry)


class _Door:
    """The ingress, and what it knows of its replicas."""

    def __init__(self, deployment: Deployment, registry: Any, secret: bytes) -> None:
        assignment = deployment.assignment
        self._deployment = deployment
        self._registry = registry
        self._where = assignment.listening
        self._settings = attrs.evolve(assignment.settings, hosts=self._where.hosts(assignment.settings))
        self._ingress = Ingress(self._settings, self._where, secret)
        self._there = 0
        self._deleted = False

    async def serve(self, started: Callable[[int], None] | None) -> None:
        """Serve until it is to stop."""
        await self._look()
        await listen(
            self._ingress.application(),
            self._where,
            calls=0,
            drain=self._drain,
            beside=(self._look_often,),
            started=started,
        )

    async def _look_often(self) -> None:
        while True:
            await self._look()
            await anyio.sleep(POLL_SECONDS)

    async def _look(self) -> None:
        """Take what replicas have told; while the registry is out of reach, they count as they were for a while."""
        try:
            self._ingress.note(await self._ask("reports"))
        except Exception as error:  # noqa: BLE001 -- Ray wraps what happened there, in many ways
            log.debug("the registry does not answer: %s", error)
        there = len(self._ingress.there)
        if there != self._there:
            log.info("replicas", extra=fields(before=self._there, now=there))
            self._there = there

    async def _ask(self, method: str, *arguments: Any) -> Any:
        asked = asyncio.wrap_future(getattr(self._registry, method).remote(*arguments).future())
        return await asyncio.wait_for(asked, ANSWER_SECONDS)

    async def _drain(self, seconds: float) -> None:
        """Place nobody any more, and have the replicas end with their calls, within so many seconds."""
        self._ingress.stopping = True
        if self._deleted:
            return
        with contextlib.suppress(Exception):  # a registry that is gone tells nobody
            await self._ask("stop", seconds)
        await anyio.sleep(TOLD_SECONDS)
        await anyio.to_thread.run_sync(partial(self._deployment.delete, seconds + END_SECONDS), abandon_on_cancel=True)
        self._deleted = True


def _look_around() -> dict[str, Any]:
    """Return what a replica would find on its machine."""
    return {"version": duplex.__version__}
