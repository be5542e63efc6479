"""What a server is called, and whose pages may call it: the headers ``Host`` and ``Origin``. No sockets.

1. A name that is not the server's own is refused: a page elsewhere may point a name of its own at this server (DNS
   rebinding), and would count as this server's page.
2. A page may call if it came from here, which only ``http`` and ``https`` can tell, or if its origin is allowed.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable

from duplex.errors import UsageError

__all__ = ["LOOPBACK_NAMES", "host_allowed", "host_names", "hosts_of", "origin_allowed", "origins"]

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""What this machine calls itself."""
ANY = "*"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_AUTHORITY = re.compile(rf"(?P<name>\[[0-9a-f:.]+\]|{_NAME}\.?)(?::(?P<port>[0-9]{{1,5}}))?")
_PATTERN = re.compile(rf"\[[0-9a-f:.]+\]|(?:\*\.)?{_NAME}")


def host_names(given: Iterable[str]) -> tuple[str, ...]:
    """Return names of hosts as :func:`host_allowed` compares them.

    :raises UsageError: if one is no name
    """
    return tuple(_host_name(name.strip()) for name in given)


def _host_name(given: str) -> str:
    if given == ANY:
        return given
    try:
        address = ipaddress.ip_address(given.strip("[]"))
    except ValueError:
        if _PATTERN.fullmatch(given.lower()) is None:
            raise UsageError(
                f"{given!r} is no name of a host; give one without scheme and port, such as talk.example.org or "
                "*.example.org"
            ) from None
        return given.lower()
    return f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 -- as addresses are written


def origins(given: Iterable[str]) -> tuple[str, ...]:
    """Return origins as browsers write them.

    :raises UsageError: if one is no origin
    """
    return tuple(_origin(origin.strip()) for origin in given)


def _origin(given: str) -> str:
    if given in (ANY, "null"):
        return given
    scheme, separator, authority = given.lower().rstrip("/").partition("://")
    split = _AUTHORITY.fullmatch(authority)
    if not (scheme and separator and split):
        raise UsageError(f"{given!r} is no origin; give scheme, host and port alone, such as https://example.com")
    default = split["port"] is not None and int(split["port"]) == _DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{split['name']}" if default else f"{scheme}://{authority}"


def hosts_of(allowed: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the hosts that web pages of these origins come from."""
    authorities = (origin.partition("://")[2] for origin in allowed if origin.startswith(("http://", "https://")))
    return tuple(split["name"] for split in map(_AUTHORITY.fullmatch, authorities) if split)


def host_allowed(host: str | None, allowed: Collection[str]) -> bool:
    """Tell whether a server is called by one of its names; ``*.example.org`` stands for all below, ``*`` for all."""
    if ANY in allowed:
        return True
    split = _AUTHORITY.fullmatch((host or "").lower())
    if split is None:
        return False
    name = split["name"].rstrip(".")
    return name in allowed or any(one.startswith("*.") and name.endswith(one[1:]) for one in allowed)


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """Tell whether a page of some origin may open a websocket here.

    Programs send no origin and are allowed. A page is, if it came from this host, or its origin is in ``allowed``.
    """
    if origin is None or origin in allowed or ANY in allowed:
        return True
    scheme, _, authority = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    if port is None:
        return False
    there = _host_and_port(authority, port)
    return there is not None and there == _host_and_port((host or "").lower(), port)


def _host_and_port(authority: str, port: int) -> tuple[str, int] | None:
    split = _AUTHORITY.fullmatch(authority)
    return None if split is None else (split["name"], port if split["port"] is None else int(split["port"]))
