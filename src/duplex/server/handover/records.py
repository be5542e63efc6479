"""A conversation on its way to another server, as bytes: its state, what its caller asked for, and what was not heard.

What a store gives back is not trusted: it is read within bounds, and a state is checked as any that comes from outside.
"""

import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Self, cast

import attrs
from attrs.validators import deep_iterable, deep_mapping, ge, instance_of, optional

from duplex.errors import StateError

__all__ = ["MovedCall"]

VERSION = 1
_PRIVATE = ("resume", "received", "sequence", "at", "ticket", "worker_auth_id")
"""What an address may have that is of one websocket alone."""


def _is_message(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    match value:
        case (int(), bool(), bytes()):
            return
        case _:
            raise TypeError(f"{attribute.name} has {type(value).__name__}")


@attrs.frozen(kw_only=True)
class MovedCall:
    """A call that another server can go on with.

    :raises TypeError: if something in it is of another type
    """

    path: str = attrs.field(validator=instance_of(str))
    """Of the wire's websocket."""
    query: Mapping[str, str] = attrs.field(
        validator=deep_mapping(instance_of(str), instance_of(str), instance_of(Mapping))
    )
    """What the caller asked for."""
    state: bytes = attrs.field(repr=False, validator=instance_of(bytes))
    """What ``Conversation.export`` returned."""
    generation: int = attrs.field(validator=instance_of(int))
    saved_at: float = attrs.field(factory=time.time, validator=[instance_of(float), ge(0)])
    """Seconds of the wall clock."""
    sent: tuple[tuple[int, bool, bytes], ...] | None = attrs.field(
        default=None, repr=False, validator=optional(deep_iterable(_is_message, instance_of(tuple)))
    )
    """Messages that may not have been heard: number, whether it is sound, bytes. ``None`` of a call that is saved while
    it goes on: only its caller can tell how far it came."""
    count: int = attrs.field(default=0, validator=[instance_of(int), ge(0)])
    """How many had been sent."""

    @property
    def away(self) -> float:
        """Seconds since it was saved; clocks of two machines may differ."""
        return max(0.0, time.time() - self.saved_at)

    def to_bytes(self) -> bytes:
        """Return it as a store keeps it."""
        query = {name: value for name, value in self.query.items() if name not in _PRIVATE}
        record = {**attrs.asdict(self, recurse=False), "query": query, "version": VERSION}
        msgpack: Any = import_module("msgpack")  # only servers with a store need it
        return cast("bytes", msgpack.packb(record))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what :meth:`to_bytes` wrote.

        :raises StateError: if it is something else, or of another version
        """
        msgpack: Any = import_module("msgpack")
        try:
            record = cast("dict[str, Any]", msgpack.unpackb(data, use_list=False))
            if record.pop("version") != VERSION:
                raise StateError("the conversation was saved by another version of duplex; call again")
            return cls(**record)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise StateError(f"what is kept of the conversation is damaged ({error}); call again") from error
