"""Places at servers, as a cluster tells them: where a caller who was redirected asks next. No sockets.

1. A cluster's ingress answers a websocket with 307 and up to three places, best first: a server's address, and a
   ticket that is good there, once, for a minute.
2. A caller asks at one after the other until one lets them in.
3. An address over TLS is never left for one without.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import attrs

from duplex.errors import ServerError
from duplex.parsing import parse_json

__all__ = ["Place", "Places", "elsewhere", "with_query"]

MOST = 3
"""Places that are asked at."""


@attrs.frozen
class Place:
    """A server that may have a place, and the ticket for it."""

    url: str
    ticket: str = attrs.field(repr=False)


class Places:
    """Places that are left to ask at; ``answer`` is what an ingress said, whatever that is.

    :raises ServerError: if it tells none
    """

    def __init__(self, answer: bytes = b"") -> None:
        self._left: deque[Place] = deque(_read(answer) if answer else ())

    def __bool__(self) -> bool:
        """Whether one is left."""
        return bool(self._left)

    def next(self) -> Place:
        """Return the next place, which is left no longer."""
        return self._left.popleft()


def elsewhere(address: str, url: str) -> str | None:
    """Return a websocket's address at another server, whose page or websocket is at ``url``.

    ``None`` stands for what is no address, or has no TLS where ``address`` does.
    """
    here, there = urlsplit(address), urlsplit(url)
    secure = there.scheme in ("https", "wss")
    if not there.netloc or (here.scheme == "wss" and not secure):
        return None
    path = there.path if there.path.endswith(here.path) else there.path.rstrip("/") + here.path
    return urlunsplit(("wss" if secure else "ws", there.netloc, path, here.query, ""))


def with_query(address: str, query: Iterable[tuple[str, str]]) -> str:
    """Return an address with more in its query."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **dict(query)})))


def _read(answer: bytes) -> list[Place]:
    try:
        told = cast("list[dict[str, Any]]", parse_json(answer)["places"])[:MOST]
        places = [Place(str(each["url"]), str(each["ticket"])) for each in told]
    except (ValueError, TypeError, KeyError):
        places = []
    if not places:
        raise ServerError(
            "the server redirects to somewhere that is not understood; give the address of a duplex server"
        )
    return places
