"""A conversation on a server's model, as its users see it; :mod:`duplex.conversation.remote_runner` runs it."""

import ssl
import warnings
from collections.abc import Callable
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

import attrs

from duplex.conversation.dialogue import Dialogue, check_transport
from duplex.conversation.remote_line import RemoteLine
from duplex.conversation.remote_runner import SAMPLE_RATE, RemoteRunner
from duplex.errors import UsageError
from duplex.extras import require
from duplex.options import SessionOptions
from duplex.transport import Transport

__all__ = ["RemoteConversation", "connect"]

ENDPOINT = "/api/chat"
_RESTART_GOES = (
    'on_lost="restart" goes: leave it out, as the same conversation goes on by itself when a connection is lost, and '
    "begin another conversation where that ends"
)
_SCHEMES = ("http", "https", "ws", "wss")


class RemoteConversation(Dialogue):
    """A conversation on the model of a server, used as :class:`duplex.Conversation` is; ``duplex.connect`` is short.

    :class:`duplex.Dialogue` says how a conversation begins and ends. ``url`` is the server's page or its websocket,
    ``token`` what it asks for. Sound travels as Opus, or with ``?format=pcm`` in the address as 16-bit samples, at
    eight times the bandwidth and without loss. ``sample_rate`` is that of pushed audio.

    When a connection is lost, the same conversation goes on over another by itself, if the server waits for its callers
    (30 s if nothing else is said): with what was said meanwhile, and a ``Lag`` for the seconds in which the user could
    not be heard. ``interrupted`` is called with ``True`` when that happens and with ``False`` when it goes on.
    ``on_lost="end"`` ends the conversation instead. (``on_lost="restart"``, which is deprecated, begins a new session
    in it, with a ``SessionStarted`` of its own, where the same one cannot go on.)

    ``queued`` is called with the position in the server's queue, from 1, while waiting in it. Without ``audio_events``
    the agent's voice goes to the transport alone, and there is no ``AgentAudio``.

    With ``flush_on_pause`` a server's recognition model hears silence when the user stops, so that the last words come
    at once, as in a :class:`duplex.Conversation` on it.

    A server sends no frames' tokens and keeps the model's state, so there is neither ``recorder`` nor ``export`` here.

    :raises UsageError: if ``url`` or ``transport`` is something else; on entering, if the server says that what is
        asked for cannot be used, such as a voice that it does not have
    :raises ServerError: on entering, if nobody answers, or the server refuses; from the iterator, if it ends the
        conversation or the connection is lost
    """

    def __init__(  # noqa: PLR0913 -- what can be chosen about a call
        self,
        url: str,
        transport: Transport | None = None,
        *,
        options: SessionOptions | None = None,
        token: str | None = None,
        sample_rate: int = SAMPLE_RATE,
        on_lost: Literal["resume", "end", "restart"] = "resume",
        queued: Callable[[int], None] | None = None,
        interrupted: Callable[[bool], None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        audio_events: bool = True,
        flush_on_pause: bool = False,
    ) -> None:
        check_transport(transport)
        require("client", "opuslib", "websockets", purpose="a conversation on a server")
        if on_lost == "restart":
            warnings.warn(_RESTART_GOES, DeprecationWarning, stacklevel=2)
        super().__init__(
            RemoteRunner(
                RemoteLine(
                    _address(url, options or SessionOptions(), flush_on_pause=flush_on_pause),
                    {} if token is None else {"Authorization": f"Bearer {token}"},
                    ssl_context,
                    resends=transport is None or not transport.realtime,
                ),
                transport,
                sample_rate=sample_rate,
                on_lost=on_lost,
                queued=queued,
                interrupted=interrupted,
                audio_events=audio_events,
            )
        )


connect = RemoteConversation
"""``async with duplex.connect("http://127.0.0.1:8998") as conversation``: start a conversation on a server."""


def _address(url: str, options: SessionOptions, *, flush_on_pause: bool) -> str:
    """Return the websocket's address with the options in its query; ``url`` is that of the server's page or its own."""
    parts = _parts(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    chosen = attrs.asdict(options, filter=lambda _, value: value is not None)
    if chosen.pop("greedy"):
        chosen |= {"temperature": 0, "text_temperature": 0}
    if flush_on_pause:
        chosen["flush_on_pause"] = "true"
    query = urlencode({**dict(parse_qsl(parts.query)), **chosen, "events": "full"})
    return urlunsplit((scheme, parts.netloc, _path(parts), query, ""))


def _parts(url: str) -> SplitResult:
    """Return the parts of a server's address.

    :raises UsageError: if it is none
    """
    try:
        parts = urlsplit(url)
        if parts.scheme in _SCHEMES and parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # brackets that do not match, a port that is no number
        pass
    raise UsageError(f"{url!r} is no address of a server; give http://host:port or https://host")


def _path(parts: SplitResult) -> str:
    """Return the websocket's path: ``api/chat`` beside the page, or what ``ws://`` says."""
    path = parts.path.rstrip("/")
    if path.endswith(ENDPOINT) or (path == parts.path != "" and parts.scheme in ("ws", "wss")):
        return path
    return path.removesuffix("/index.html") + ENDPOINT
