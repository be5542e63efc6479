"""Running the server: where it listens, and how it stops.

1. SIGTERM or SIGINT: nobody is let in any more, conversations go on for at most ``drain`` seconds, the rest is ended.
2. A second signal ends everything at once.
"""

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import cast

import anyio
import attrs
import uvicorn
from starlette.applications import Starlette
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from duplex.engine.model import Model
from duplex.engine.notifiers import ThreadsafeNotifier
from duplex.errors import ServerError, UsageError
from duplex.server.accept import BACKLOG, ConnectionLimit, Counted, Listener, descriptor_bound
from duplex.server.asgi import application
from duplex.server.connections import MAX_UNSENT_BYTES, HttpConnection, WebSocketConnection
from duplex.server.middleware import MAX_MESSAGE_BYTES, RootPath
from duplex.server.service import Service
from duplex.server.settings import Settings, is_loopback, not_negative

__all__ = ["Listening", "serve"]

PING_SECONDS = 20.0
"""Between pings, and to answer one: who does not is gone, or does not read."""
MAX_HEADER_BYTES = 1 << 14
KEEP_ALIVE_SECONDS = 5
GRACE_SECONDS = 10
"""That connections may take to close once everything has been said."""


def _networks(_: object, __: object, given: tuple[str, ...]) -> None:
    """Check addresses.

    :raises UsageError: if one is neither an address nor a network
    """
    for one in given:
        try:
            ipaddress.ip_network(one)
        except ValueError as error:
            raise UsageError(
                f"a proxy is {one!r} ({error}); give its address or its network, such as 127.0.0.1 or 172.16.0.0/12"
            ) from None


def _as_root_path(given: str) -> str:
    path = given.strip("/")
    return f"/{path}" if path else ""


@attrs.frozen(kw_only=True)
class Listening:
    """Where a server listens.

    :raises UsageError: if a proxy is no address
    """

    host: str = "127.0.0.1"
    port: int = 8998
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False
    """Whether a server that others can reach may go without tokens."""
    drain: float = attrs.field(default=30.0, validator=not_negative)
    """Seconds that conversations may go on when the server is to stop."""
    proxies: tuple[str, ...] = attrs.field(default=(), validator=_networks)
    """Addresses and networks of reverse proxies: what these say of a caller (``X-Forwarded-For``, ``-Proto``) is
    believed, and what others say is not."""
    root_path: str = attrs.field(default="", converter=_as_root_path)
    """Path of the page at a proxy, such as ``/talk``, needed if the proxy does not take it off."""

    def check(self, settings: Settings) -> None:
        """Check that the server is not open to the world by accident.

        :raises UsageError: if it is
        """
        if not (is_loopback(self.host) or settings.tokens or self.insecure):
            raise UsageError(
                f"on {self.host} everybody in the network could talk; give a token with --token-file or "
                "DUPLEX_TOKENS, or --insecure if that is meant"
            )


async def serve(
    model: Model,
    settings: Settings | None = None,
    listening: Listening | None = None,
    *,
    started: Callable[[int], None] | None = None,
) -> None:
    """Serve on asyncio until SIGTERM or SIGINT, or until cancelled. ``started`` is told the port that is listened on.

    Meanwhile numpy's matrix products are of one thread each, in all of the process.

    :raises UsageError: if others could reach the server and no token is wanted
    :raises ServerError: if the address is taken, or the certificate cannot be read
    """
    where, rules = listening or Listening(), settings or Settings()
    where.check(rules)
    rules = attrs.evolve(rules, hosts=_hosts(rules, where))
    served = application(model, rules)
    service: Service = served.state.service
    asked = ThreadsafeNotifier()
    limit = ConnectionLimit(descriptor_bound(model.sessions + rules.queue))
    server = _Server(_config(served, where), limit, asked=asked.notify, listens=started or _nobody)
    # A product of small matrices that wakes another thread of BLAS costs a core, which then waits for the next one.
    with contextlib.closing(_bound(where)) as bound, threadpool_limits(1, user_api="blas"):
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                try:
                    await asked.wait()
                    await service.drain(where.drain)
                finally:
                    with anyio.CancelScope(shield=True):
                        await service.drain(0)
                    server.should_exit = True

            tasks.start_soon(stop)
            tasks.start_soon(service.watch_loop)
            # Cancelled, uvicorn would leave its connections open: it ends because it is told to.
            with anyio.CancelScope(shield=True):
                await server.serve(sockets=[bound])
            tasks.cancel_scope.cancel()


class _Server(uvicorn.Server):
    """Uvicorn, which asks instead of stopping at the first signal."""

    def __init__(
        self,
        config: uvicorn.Config,
        limit: ConnectionLimit,
        *,
        asked: Callable[[], None],
        listens: Callable[[int], None],
    ) -> None:
        super().__init__(config)
        self._limit = limit
        self._asked = asked
        self._listens = listens
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and tell the port: from here on signals are taken."""

        def handover(counted: Counted) -> HttpConnection:
            return HttpConnection(self.config, self.server_state, counted)

        # Uvicorn only closes them and waits for that.
        self.servers = [
            cast("asyncio.base_events.Server", Listener(bound, self._limit, handover, self.config.ssl))
            for bound in sockets or []
        ]
        self.started = True
        for bound in sockets or []:
            self._listens(bound.getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections."""
        await super().shutdown(sockets)
        self._limit.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- uvicorn's signature
        """Take a signal."""
        self._signals += 1
        self._asked()
        if self._signals > 1:
            self.should_exit = self.force_exit = True


def _nobody(_: int) -> None:
    """Is told the port where nobody asked for it."""


def _hosts(rules: Settings, where: Listening) -> tuple[str, ...]:
    """Return the names that a server may be called by: on this machine alone, only those that were given."""
    if is_loopback(where.host):
        return *rules.hosts, where.host
    return rules.hosts or ("*",)


def _config(served: Starlette, where: Listening) -> uvicorn.Config:
    try:
        config = uvicorn.Config(
            RootPath(served, where.root_path) if where.root_path else served,
            proxy_headers=bool(where.proxies),
            forwarded_allow_ips=list(where.proxies),
            ws=WebSocketConnection,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            http=HttpConnection,
            lifespan="off",
            access_log=False,
            log_level="warning",  # below, it tells the addresses of websockets, with the tickets in them
            log_config=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ssl_certfile=where.certificate,
            ssl_keyfile=where.key,
        )
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ServerError(f"the certificate cannot be used ({error}); give --tls-certificate and --tls-key") from None
    return config


def _bound(where: Listening) -> socket.socket:
    """Take the address.

    :raises ServerError: if that cannot be
    """
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    try:
        bound = socket.create_server((where.host, where.port), family=family, backlog=BACKLOG)
    except OSError as error:
        # Python's own text has the address once more.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error
        raise ServerError(
            f"{where.host}:{where.port} cannot be listened on ({reason}); choose another --host or --port"
        ) from None
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # not on Windows; a connection has it from here
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
    # asyncio sends small messages at once on sockets that say they are TCP, and only on those. On the others a message
    # waits until the caller acknowledges the one before it, which it does with its next message, a frame later.
    return socket.socket(bound.family, bound.type, socket.IPPROTO_TCP, fileno=bound.detach())
