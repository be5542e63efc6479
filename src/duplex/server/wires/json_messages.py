"""JSON messages of wires: read strictly, so that whoever sends something else is told what, and written compactly."""

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from typing import Any, cast

import attrs

from duplex.events import JsonValue
from duplex.parsing import parse_json, shown
from duplex.server.wires.base import WireMessage

__all__ = ["BadMessage", "Record", "dump", "new_id", "read_message"]


class BadMessage(Exception):  # noqa: N818 -- what a caller has sent, told to that caller and raised to nobody else
    """A message that makes no sense: ``code`` for machines, the text for people, ``param`` where in it."""

    def __init__(self, code: str, text: str, param: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.param = param


@attrs.frozen
class Record:
    """A JSON object of a caller, and where it stands in the message."""

    values: Mapping[str, Any]
    path: str = ""

    def text(self, name: str, default: str | None = None) -> str | None:
        """Return a string, the default where it is absent or null.

        :raises BadMessage: if it is something else
        """
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def record(self, name: str) -> "Record":
        """Return an object, an empty one where it is absent or null.

        :raises BadMessage: if it is something else
        """
        value = self.values.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Record(cast("dict[str, Any]", value), self.at(name))

    def items(self, name: str) -> list[Any]:
        """Return an array, an empty one where it is absent or null.

        :raises BadMessage: if it is something else
        """
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "an array")
        return cast("list[Any]", value)

    def records(self, name: str) -> list["Record"]:
        """Return an array's objects, none where it is absent or null.

        :raises BadMessage: if it is something else
        """
        items = self.items(name)
        if not all(isinstance(item, dict) for item in items):
            raise self.wrong(name, "an array of objects")
        return [Record(cast("dict[str, Any]", item), f"{self.at(name)}[{n}]") for n, item in enumerate(items)]

    def audio(self, name: str) -> bytes:
        """Return bytes that stand there in base64.

        :raises BadMessage: if it is something else
        """
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "audio in base64")
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):  # ValueError: a character beyond ASCII
            raise self.wrong(name, "audio in base64") from None

    def at(self, name: str) -> str:
        """Return where a value stands in the message."""
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, wanted: str) -> BadMessage:
        """Return what is wrong with a value."""
        where, value = self.at(name), self.values.get(name)
        return BadMessage("invalid_value", f"{where} is {shown(value)}; send {wanted}", where)


def read_message(message: WireMessage) -> Record:
    """Return a message's JSON object.

    :raises BadMessage: if it is none
    """
    if isinstance(message, bytes):
        raise BadMessage("invalid_json", "binary messages are not understood here; send JSON as text")
    try:
        value: Any = parse_json(message)
    except ValueError as error:
        raise BadMessage("invalid_json", f"the message is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise BadMessage("invalid_json", f"the message is {shown(cast('object', value))}; send a JSON object")
    return Record(cast("dict[str, Any]", value))


def dump(record: Mapping[str, JsonValue]) -> str:
    """Return a message as it travels."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(errors="replace").decode()


def new_id(prefix: str) -> str:
    """Return a new identifier, such as ``event_4f...``."""
    return f"{prefix}_{secrets.token_hex(10)}"
