"""A cluster without Ray: replicas and an ingress in threads, and a registry between them in this process."""

import contextlib
import functools
import queue
import time

import anyio
from anyio.from_thread import start_blocking_portal

from duplex.cluster.serving.assignment import Assignment, Held
from duplex.cluster.serving.ingress import Ingress
from duplex.cluster.serving.registry import Registry
from duplex.cluster.serving.replica_server import ReplicaServer
from duplex.server import Listening, Settings
from duplex.server.run import listen
from server_support import Server

SECRET = b"of these tests"
PATIENCE = 20.0


class Replica:
    """A replica in a thread, until it is told to stop."""

    def __init__(self, fleet, models, name):
        self._fleet = fleet
        self._open = contextlib.ExitStack()
        settings, listening = fleet.assignment.at("127.0.0.1")
        self.server = ReplicaServer(Held(models), settings, listening, name=name, secret=SECRET)
        self.name = name
        self.silent = False
        self._open.enter_context(self.server.running(self._tell))

    async def _tell(self, report):
        return None if self.silent else self._fleet.registry.report(report)

    @property
    def port(self):
        return int(self.server.url.rpartition(":")[2])

    @property
    def client(self):
        return Server(self.port, None)

    def stop(self):
        """Let it drain, and wait for that."""
        self._open.close()


class Fleet:
    """Replicas, one for each model or list of models, and the ingress."""

    def __init__(self, models, settings, tls):
        self.registry = Registry(SECRET)
        self._tls = tls
        self.assignment = Assignment(loading=None, settings=settings, listening=Listening(port=1, drain=0, **tls))
        held = [model if isinstance(model, list) else [model] for model in models]
        self.replicas = [Replica(self, each, f"replica-{index}") for index, each in enumerate(held)]
        self.ingress = Ingress(settings, self.assignment.listening, SECRET)

    async def serve(self, started):
        async def look():
            while True:
                self.ingress.note(self.registry.reports())
                await anyio.sleep(0.05)

        async def drain(_):
            self.ingress.stopping = True

        where = Listening(port=0, **self._tls)
        await listen(self.ingress.application(), where, calls=0, drain=drain, beside=(look,), started=started)

    def report(self, index):
        """What the registry knows of a replica."""
        return next(told for _, told in self.registry.reports() if told.name == self.replicas[index].name)


@contextlib.contextmanager
def fleet(*models, tls=(), **settings):
    """Run a cluster until the block ends; give it, and its ingress as the tests of servers know one.

    ``tls`` is a certificate and its key.
    """
    made = Fleet(models, Settings(**settings), dict(zip(("certificate", "key"), tls, strict=False)))
    port = queue.Queue()
    with start_blocking_portal("asyncio") as portal:
        future = portal.start_task_soon(functools.partial(made.serve, port.put))
        future.add_done_callback(lambda _: port.put(None))
        number = port.get(timeout=PATIENCE)
        if number is None:
            future.result()
        try:
            deadline = time.monotonic() + PATIENCE
            while len(made.ingress.placement.there(time.monotonic())) < len(models):
                assert time.monotonic() < deadline, "not all replicas told of themselves"
                time.sleep(0.01)
            yield made, Server(number, future.cancel)
        finally:
            for each in made.replicas:
                each.stop()
            future.cancel()
