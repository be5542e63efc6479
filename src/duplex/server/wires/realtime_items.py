"""The conversation of ``/v1/realtime`` as its client sees it: items, each told when it is added and when it is done.

Items are what clients keep their histories by; the model has no use for them. The oldest are forgotten.
"""

from collections.abc import Iterable, Mapping

import attrs

from duplex.events import JsonValue
from duplex.server.wires.json_messages import BadMessage, Record, dump, new_id

__all__ = ["Items", "assistant_item", "error_message", "message", "read_id", "read_item", "read_item_id", "user_item"]

MAX_ITEMS = 200
MAX_ID = 512
"""Characters of a name that a client gives."""
MAX_CONTENT = 20_000
"""Characters of an item that a client adds."""
ROOT = "root"
"""The client's word for the beginning of the conversation."""
NOT_HEARD = "the model hears sound alone: this does not reach it"
_ITEM_TEXTS: Mapping[str, tuple[str, ...]] = {
    "message": ("role",),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
}
"""The kinds of items that a client may add, and what is kept of each: strings."""
_PART_TEXTS = ("type", "text", "transcript")
_ROLES = ("user", "assistant", "system")


def message(kind: str, **values: JsonValue) -> str:
    """Return a message of the server."""
    return dump({"type": kind, "event_id": new_id("event"), **values})


def error_message(
    code: str, text: str, *, param: str | None = None, client_id: str | None = None, kind: str = "invalid_request_error"
) -> str:
    """Return an ``error``; ``client_id`` is the client's name for the message that it answers."""
    return message("error", error={"type": kind, "code": code, "message": text, "param": param, "event_id": client_id})


def assistant_item(item_id: str) -> dict[str, JsonValue]:
    """Return a new item of the agent's speech."""
    return _item(item_id, "in_progress", role="assistant", content=[])


def user_item(item_id: str) -> dict[str, JsonValue]:
    """Return a new item of the user's speech."""
    return _item(item_id, "completed", role="user", content=[{"type": "input_audio", "transcript": None}])


def read_item(given: Record) -> dict[str, JsonValue]:
    """Return an item that a client adds: it stands in the conversation, and does not reach the model, which it says.

    :raises BadMessage: if it makes no sense
    """
    kind, item_id = given.text("type"), read_id(given, "id") or new_id("item")
    names = _ITEM_TEXTS.get(kind or "")
    if names is None:
        raise given.wrong("type", f"one of {', '.join(_ITEM_TEXTS)}")
    item: dict[str, JsonValue] = {"id": item_id, "object": "realtime.item", "type": kind, "status": "incomplete"}
    item |= _texts(given, names)
    if kind == "message":
        if item.get("role") not in _ROLES:
            raise given.wrong("role", f"one of {', '.join(_ROLES)}")
        item["content"] = [_texts(part, _PART_TEXTS) for part in given.records("content")]
    item["left_out"] = [NOT_HEARD]
    if len(dump(item)) > MAX_CONTENT:
        raise BadMessage("item_too_large", f"the item is larger than {MAX_CONTENT} characters; send less", given.path)
    return item


def read_id(record: Record, name: str) -> str | None:
    """Return a name that a client gives, if it gives one.

    :raises BadMessage: if it is no string, or too long
    """
    text = record.text(name)
    if text is not None and len(text) > MAX_ID:
        raise record.wrong(name, f"at most {MAX_ID} characters")
    return text


def read_item_id(record: Record, name: str) -> str:
    """Return a name that a client must give.

    :raises BadMessage: if it does not
    """
    text = read_id(record, name)
    if text is None:
        raise BadMessage("missing_required_parameter", f"{name} is missing; name an item of the conversation", name)
    return text


def _texts(given: Record, names: Iterable[str]) -> dict[str, JsonValue]:
    """Return those of some strings that are there."""
    found = {name: given.text(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _item(item_id: str, status: str, *, role: str, content: list[JsonValue]) -> dict[str, JsonValue]:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": role,
        "content": content,
    }


@attrs.define
class Items:
    """The items of one conversation."""

    _known: dict[str, dict[str, JsonValue]] = attrs.Factory(dict[str, dict[str, JsonValue]])
    last: str | None = None
    """The item at the end."""

    def add(self, item: dict[str, JsonValue], after: str | None = None) -> str:
        """Take an item, at the end or ``after`` another, and tell it.

        :raises BadMessage: if there is one of that name, or none that it comes after
        """
        name = str(item["id"])
        if name in self._known:
            code = "item_create_duplicate_item_id"
            raise BadMessage(code, f"there is an item {name} already; take another name", "item.id")
        if after is not None and after != ROOT:
            self.find(after, "create", "previous_item_id")
        previous = self.last if after is None else after
        if previous == self.last:
            self.last = name
        self._known[name] = item
        while len(self._known) > MAX_ITEMS:
            del self._known[next(iter(self._known))]
        return message("conversation.item.added", item=item, previous_item_id=None if previous == ROOT else previous)

    def done(self, item: dict[str, JsonValue]) -> str:
        """Tell that an item changes no more."""
        return message("conversation.item.done", item=item)

    def find(self, name: str, verb: str, param: str = "item_id") -> dict[str, JsonValue]:
        """Return an item.

        :raises BadMessage: if there is none of that name
        """
        item = self._known.get(name)
        if item is None:
            code = f"item_{verb}_invalid_item_id"
            raise BadMessage(code, f"there is no item {name[:MAX_ID]} in the conversation", param)
        return item

    def remove(self, name: str) -> str:
        """Forget an item, and tell that.

        :raises BadMessage: if there is none of that name
        """
        self.find(name, "delete")
        del self._known[name]
        if name == self.last:
            self.last = next(reversed(self._known), None)
        return message("conversation.item.deleted", item_id=name)
