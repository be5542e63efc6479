"""Where a server listens, and what can be known to fail before a model is loaded."""

import ipaddress
import math
import os
import socket
import ssl
import tempfile
from pathlib import Path

import attrs

from duplex.atomic import output_error
from duplex.audio.opus import OpusWriter
from duplex.errors import ServerError, UsageError
from duplex.server.accept import BACKLOG
from duplex.server.auth import Tokens
from duplex.server.connections import MAX_UNSENT_BYTES
from duplex.server.notice import load_notice
from duplex.server.settings import Settings, is_loopback, not_negative

__all__ = ["Listening", "check_fronts", "check_settings", "check_start", "usual_fronts"]

MAX_FRONTS = 64
CALLS_OF_FRONT = 64
"""That one front holds in about half of a core: more wait for each other, as they share one interpreter."""


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


def _fronts(_: object, __: object, given: int) -> None:
    """Check how many processes there shall be.

    :raises UsageError: if it is none, or more than there can be here
    """
    if not 1 <= given <= MAX_FRONTS:
        raise UsageError(f"fronts is {given}; give 1 to {MAX_FRONTS}")
    if given > 1 and not hasattr(socket, "AF_UNIX"):
        raise UsageError("processes talk over Unix sockets, which this system lacks; leave --fronts out")


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
    fronts: int = attrs.field(default=1, validator=_fronts)
    """Processes that connections, sound and protocols are handled in; with 1 that is the model's own."""
    root_path: str = attrs.field(default="", converter=_as_root_path)
    """Path of the page at a proxy, such as ``/talk``, needed if the proxy does not take it off."""

    def hosts(self, settings: Settings) -> tuple[str, ...]:
        """Return the names that a server may be called by: on this machine alone, only those that were given."""
        if is_loopback(self.host):
            return *settings.hosts, self.host
        return settings.hosts or ("*",)

    def check(self, settings: Settings) -> None:
        """Check that the server is not open to the world by accident.

        :raises UsageError: if it is
        """
        if not (is_loopback(self.host) or settings.tokens or self.insecure):
            raise UsageError(
                f"on {self.host} everybody in the network could talk; give a token with --token-file or "
                "DUPLEX_TOKENS, or --insecure if that is meant"
            )

    def tls(self) -> ssl.SSLContext | None:
        """Return what TLS is spoken with, if it is.

        :raises ServerError: if the certificate or its key cannot be used
        """
        if self.certificate is None:
            return None
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:  # that of ssl is one
            text = f"the certificate cannot be used ({error}); give --tls-certificate and --tls-key"
            raise ServerError(text) from None
        return context

    def bind(self) -> socket.socket:
        """Take the address.

        :raises ServerError: if that cannot be
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            bound = socket.create_server((self.host, self.port), family=family, backlog=BACKLOG)
        except OSError as error:
            # Python's own text has the address once more.
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error
            raise ServerError(
                f"{self.host}:{self.port} cannot be listened on ({reason}); choose another --host or --port"
            ) from None
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # not on Windows; a connection has it from here
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
        # asyncio sends small messages at once on sockets that say they are TCP, and only on those. On the others a
        # message waits until the caller acknowledges the one before it, which it does with its next, a frame later.
        return socket.socket(bound.family, bound.type, socket.IPPROTO_TCP, fileno=bound.detach())


def check_fronts(fronts: int, *, transcriber: bool, synthesis: bool) -> None:
    """Check that nothing is wanted that several fronts cannot do.

    :raises UsageError: if something is
    """
    if fronts > 1 and transcriber:
        raise UsageError("a transcriber listens in one process; leave --transcriber out, or serve with --fronts 1")
    if fronts > 1 and synthesis:
        raise UsageError("models of speech synthesis say texts in their own process; serve them with --fronts 1")


def usual_fronts(sessions: int) -> int:
    """Return how many fronts a server of so many conversations has on this machine, if nobody says."""
    if not hasattr(os, "sched_getaffinity"):  # Linux has it, and fronts have been tried nowhere else
        return 1
    cores = len(os.sched_getaffinity(0))  # a container may have fewer than the machine
    return max(1, min(math.ceil(sessions / CALLS_OF_FRONT), cores, MAX_FRONTS))


def check_settings(settings: Settings) -> None:
    """Check what a server of these settings needs.

    :raises UsageError: if a token is too short
    :raises OutputError: if the folder for recordings cannot be written
    :raises MissingDependencyError: if libopus is not installed
    """
    Tokens(settings.tokens)
    OpusWriter(24000)
    if settings.record is not None:
        _check_folder(settings.record)
    if settings.notice is not None:
        load_notice(settings.notice, 24000)


def check_start(settings: Settings, listening: Listening) -> None:
    """Check whatever can be known before a model is loaded, which may take minutes.

    :raises UsageError: if others could reach the server and no token is wanted, or a token is too short
    :raises OutputError: if the folder for recordings cannot be written
    :raises MissingDependencyError: if libopus is not installed
    :raises ServerError: if the address is taken, or the certificate cannot be used
    """
    listening.check(settings)
    check_settings(settings)
    listening.tls()
    listening.bind().close()


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"duplex")
    except OSError as error:
        raise output_error(folder, error) from error
