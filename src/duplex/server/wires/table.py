"""The wires that a server has, by name; ``--wires`` chooses among them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs

from duplex.server.auth import Keys, signed_by_twilio
from duplex.server.wires.asr_streaming import AsrStreamingWire
from duplex.server.wires.base import Opening, Wire
from duplex.server.wires.chat import OF_PERSONAPLEX, ChatWire
from duplex.server.wires.live import LiveWire
from duplex.server.wires.media_streams import DIALECTS, MediaStreamWire
from duplex.server.wires.realtime import RealtimeWire

__all__ = ["NAMES", "SHOW_TOKEN", "SPEECH", "WIRES", "WireKind", "bearer_or_ticket"]

SHOW_TOKEN = "show a token (Authorization: Bearer ...) or a ticket (?ticket=...)"  # noqa: S105 -- says what is wanted
"""What one who may not come in is told."""
_WITH_BASE64 = 1 << 20
"""Bytes of a message of JSON with audio in it: 16 seconds at most, and no client sends so much."""
_WITH_SAMPLES = 1 << 20
"""Bytes of a message of msgpack with samples in it: 5 seconds of doubles."""
_KEY = "openai-insecure-api-key."


def bearer_or_ticket(keys: Keys, opening: Opening, now: float) -> str | None:
    """Return whose token or ticket a caller shows; ``worker_auth_id`` is the original's word for a ticket."""
    owner = keys.tokens.owner(opening.headers.get("authorization"))
    if owner is not None:
        return owner
    ticket = opening.query.get("ticket") or opening.query.get("worker_auth_id") or ""
    return keys.tickets.redeem(ticket, now)


def _key_of_openai(keys: Keys, opening: Opening, now: float) -> str | None:
    """Return whose token, ticket or client secret a caller shows; pages show it among the subprotocols."""
    pages = [name.removeprefix(_KEY) for name in opening.subprotocols if name.startswith(_KEY)]
    shown = [opening.headers.get("authorization"), *(f"Bearer {key}" for key in pages)]
    owners = (keys.owner(authorization, now) for authorization in shown)
    owner = next((owner for owner in owners if owner is not None), None)
    return bearer_or_ticket(keys, opening, now) if owner is None else owner


def _key_of_moshi_server(keys: Keys, opening: Opening, now: float) -> str | None:
    """Return whose token or ticket a caller of the published recogniser shows; ``auth_id`` is its word for a ticket."""
    owner = keys.tokens.owner(f"Bearer {opening.headers.get('kyutai-api-key', '')}")
    if owner is None:
        owner = keys.tickets.redeem(opening.query.get("auth_id") or "", now)
    return bearer_or_ticket(keys, opening, now) if owner is None else owner


def _signature(keys: Keys, opening: Opening, now: float) -> str | None:
    """Return whose call Twilio passes on: "twilio" if its signature is wanted and right, else as anybody's."""
    if keys.twilio is None:
        return bearer_or_ticket(keys, opening, now)
    signature = opening.headers.get("x-twilio-signature", "")
    return "twilio" if signed_by_twilio(keys.twilio, opening.url, signature) else None


@attrs.frozen(kw_only=True)
class WireKind:
    """A wire, and where it is."""

    path: str
    open: Callable[[Opening], Wire]
    """Makes the wire of one caller.

    :raises UsageError: if what the address says makes no sense
    """
    owner: Callable[[Keys, Opening, float], str | None] = bearer_or_ticket
    """Tells whose token a caller shows, "" if none is wanted; ``None`` may not come in."""
    credentials: str = SHOW_TOKEN
    """What one who may not come in is told."""
    subprotocol: str | None = None
    """The websocket's subprotocol that is chosen where a client offers it."""
    max_message_bytes: int = 1 << 16
    resumes: bool = False
    """Whether a caller whose line has broken may come back here, with ``?resume=``."""


_GUARDS: Mapping[str, Mapping[str, Any]] = {
    "twilio": {
        "owner": _signature,
        "credentials": "no signature of Twilio; is DUPLEX_TWILIO_AUTH_TOKEN the auth token of the account that calls?",
    }
}
WIRES: Mapping[str, WireKind] = {
    "chat": WireKind(path="/api/chat", open=ChatWire, resumes=True),
    "personaplex": WireKind(
        path="/personaplex/api/chat", open=partial(ChatWire, defaults=OF_PERSONAPLEX), resumes=True
    ),
    **{
        name: WireKind(path=f"/{name}", open=partial(MediaStreamWire, dialect), **_GUARDS.get(name, {}))
        for name, dialect in DIALECTS.items()
    },
    "live": WireKind(path="/v1/live/sessions", open=LiveWire, max_message_bytes=_WITH_BASE64),
    "realtime": WireKind(
        path="/v1/realtime",
        open=RealtimeWire,
        owner=_key_of_openai,
        credentials="show a token or a client secret (Authorization: Bearer ..., or subprotocol "
        "openai-insecure-api-key....)",
        subprotocol="realtime",
        max_message_bytes=_WITH_BASE64,
    ),
    "asr": WireKind(
        path="/api/asr-streaming",
        open=AsrStreamingWire,
        owner=_key_of_moshi_server,
        credentials="show a token (kyutai-api-key, Authorization: Bearer ...) or a ticket (?auth_id=...)",
        max_message_bytes=_WITH_SAMPLES,
    ),
}
SPEECH = "speech"
"""Texts that are said, over HTTP."""
NAMES = (*WIRES, SPEECH)
"""All that ``--wires`` chooses among."""
