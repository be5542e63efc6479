"""The messages of ``/api/chat``: the first byte is the kind, the rest what it carries. No I/O.

The kinds and what they carry are those of the original's server, so that its clients work unchanged.
"""

import json
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import attrs

__all__ = ["Kind", "Message", "audio", "error", "handshake", "metadata", "parse", "ping", "text"]


class Kind(IntEnum):
    """What a message carries."""

    HANDSHAKE = 0
    """Eight zero bytes: the session begins."""
    AUDIO = 1
    """Ogg Opus pages, or 16-bit samples for a client that asked for them."""
    TEXT = 2
    """A piece of what the agent says, UTF-8."""
    CONTROL = 3
    """One byte; the original's clients send it and expect nothing."""
    METADATA = 4
    """A JSON object."""
    ERROR = 5
    """What went wrong and what to do, UTF-8."""
    PING = 6
    """Nothing: the line is alive."""


@attrs.frozen
class Message:
    """One message."""

    kind: Kind
    payload: bytes

    def encode(self) -> bytes:
        """Return it as it travels."""
        return bytes([self.kind]) + self.payload


def parse(data: bytes) -> Message | None:
    """Return what a message says; ``None`` for an empty one and for one of an unknown kind, which mean nothing."""
    try:
        return Message(Kind(data[0]), bytes(data[1:]))
    except (IndexError, ValueError):
        return None


def handshake() -> bytes:
    """Return the message that begins a session."""
    return Message(Kind.HANDSHAKE, bytes(8)).encode()


def audio(payload: bytes) -> bytes:
    """Return a message of sound."""
    return Message(Kind.AUDIO, payload).encode()


def text(piece: str) -> bytes:
    """Return a message with a piece of what the agent says."""
    return Message(Kind.TEXT, piece.encode()).encode()


def metadata(record: Mapping[str, Any]) -> bytes:
    """Return a message with a JSON object."""
    return Message(Kind.METADATA, json.dumps(record, ensure_ascii=False).encode(errors="replace")).encode()


def error(message: str) -> bytes:
    """Return a message that says what went wrong."""
    return Message(Kind.ERROR, message.encode()).encode()


def ping() -> bytes:
    """Return a message that says nothing."""
    return Message(Kind.PING, b"").encode()
