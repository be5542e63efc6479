"""``/v1/realtime``: the wire of OpenAI's Realtime clients, whose protocol has turns.

1. ``session.created`` greets. The caller is let in at the first audio, the first ``session.update`` that has
   instructions (some clients send others before), or the first ``response.create``, whichever comes first.
2. The agent's speech is told in responses (:mod:`duplex.server.wires.realtime_responses`), its silence not at all; the
   user's in items (:mod:`duplex.server.wires.realtime_user`).
3. A start of the user's speech makes clients cut the agent off, who hears for itself that somebody speaks: it is told
   while the agent is silent, or always where ``interrupt_response`` asks for that; ``turn_detection: null`` is never.
4. Whatever a client sends that makes no sense is answered with an ``error``, and the call goes on. Some clients end at
   an ``error``: what makes sense and cannot be had is told otherwise (``left_out``).

The messages are those of ``openai.types.realtime``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import level_dbfs
from duplex.events import AgentText, Event, JsonValue, UserSpeechStarted, UserSpeechStopped, UserText
from duplex.parsing import shown
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import (
    Action,
    Audio,
    Begin,
    CallDescription,
    Interrupt,
    Opening,
    Reply,
    Wire,
    WireMessage,
)
from duplex.server.wires.json_messages import BadMessage, Record, new_id, read_message
from duplex.server.wires.openai_audio import read_audio
from duplex.server.wires.realtime_items import (
    MAX_ID,
    NOT_HEARD,
    Items,
    error_message,
    message,
    read_id,
    read_item,
    read_item_id,
)
from duplex.server.wires.realtime_responses import Claim, Responses
from duplex.server.wires.realtime_session import RealtimeSession
from duplex.server.wires.realtime_user import UserSpeech

__all__ = ["RealtimeWire"]

MAX_METADATA = 16
"""Entries that a response may have, each of at most :data:`MAX_ID` characters."""
_LONGEST_MS = 1 << 31


class RealtimeWire(Wire):
    """A caller on ``/v1/realtime``."""

    may_pause = True  # who has to press a button to talk, or is muted, sends nothing meanwhile

    def __init__(self, opening: Opening) -> None:
        self._session = RealtimeSession(new_id("sess"), opening.query.get("model") or None)
        self._items = Items()
        self._responses = Responses(self._items)
        self._user = UserSpeech(self._items)
        self._seconds = 0.0
        """Of the agent's audio that have been sent."""
        self._commands: Mapping[str, Callable[[Record], Iterator[Action]]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "output_audio_buffer.clear": self._clear_output,
            "response.create": self._create_response,
            "response.cancel": self._cancel,
            "conversation.item.create": self._create_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.truncate": self._truncate_item,
        }

    def opened(self) -> Iterable[WireMessage]:
        """Greet."""
        return (message("session.created", session=self._session.resource()),)

    def receive(self, message: WireMessage) -> Iterable[Action]:
        """Take a client's message."""
        client_id: str | None = None
        try:
            record = read_message(message)
            client_id = read_id(record, "event_id")
            return tuple(self._command(record)(record))
        except BadMessage as error:
            return (Reply(error_message(error.code, str(error), param=error.param, client_id=client_id)),)

    def _command(self, record: Record) -> Callable[[Record], Iterator[Action]]:
        command = self._commands.get(record.text("type") or "")
        if command is None:
            text = f"there is no message {shown(record.values.get('type'))} here"
            raise BadMessage("unknown_event", text, "type")
        return command

    def _update(self, record: Record) -> Iterator[Action]:
        given = record.record("session")
        self._session.update(given)
        if not self._session.settled and given.values.get("instructions") is not None:
            yield from self._begin()  # and is answered when it is known what is in force
        else:
            yield Reply(self._updated())

    def _begin(self) -> Iterator[Action]:
        if not self._session.settled:
            yield Begin(self._session.request())

    def _append(self, record: Record) -> Iterator[Action]:
        payload = read_audio(record, self._session.heard)
        if payload:
            yield from self._begin()
            yield Audio(payload)

    def _commit(self, _: Record) -> Iterator[Action]:
        return map(Reply, self._user.commit())

    def _clear(self, _: Record) -> Iterator[Action]:
        yield Reply(message("input_audio_buffer.cleared"))

    def _create_response(self, record: Record) -> Iterator[Action]:
        given = record.record("response")
        asked = [name for name in ("instructions", "input", "tools") if given.values.get(name)]
        left_out = (f"{', '.join(asked)} of a response: {NOT_HEARD}",) if asked else ()
        self._responses.claim(Claim(_metadata(given), left_out))
        yield from self._begin()

    def _cancel(self, record: Record) -> Iterator[Action]:
        yield from self._muted(self._responses.cancel(read_id(record, "response_id")))

    def _clear_output(self, _: Record) -> Iterator[Action]:
        yield from self._muted(self._responses.cut("client_cancelled"))

    def _create_item(self, record: Record) -> Iterator[Action]:
        item = read_item(record.record("item"))
        yield Reply(self._items.add(item, read_id(record, "previous_item_id")))
        yield Reply(self._items.done(item))

    def _delete_item(self, record: Record) -> Iterator[Action]:
        yield Reply(self._items.remove(read_item_id(record, "item_id")))

    def _retrieve_item(self, record: Record) -> Iterator[Action]:
        item = self._items.find(read_item_id(record, "item_id"), "retrieve")
        yield Reply(message("conversation.item.retrieved", item=item))

    def _truncate_item(self, record: Record) -> Iterator[Action]:
        name, until = read_item_id(record, "item_id"), record.values.get("audio_end_ms")
        self._items.find(name, "truncate")
        if type(until) is not int or not 0 <= until <= _LONGEST_MS:
            raise record.wrong("audio_end_ms", "a whole number of milliseconds")
        if self._responses.owns(name):
            yield from self._muted(self._responses.cut("client_cancelled"))
        yield Reply(message("conversation.item.truncated", item_id=name, content_index=0, audio_end_ms=until))

    def _muted(self, told: Iterator[str]) -> Iterator[Action]:
        """Let nothing more be heard of what the agent is saying, and tell that."""
        yield Interrupt()
        yield from map(Reply, told)

    def admitted(self, description: CallDescription) -> Iterable[WireMessage]:
        """Tell what is in force."""
        self._session.description = description
        self._responses.frame_seconds = description.frame_duration
        return (self._updated(),)

    def waiting(self, position: int) -> Iterable[WireMessage]:
        """Tell the place in the queue: the protocol has no words of its own for it."""
        self._session.position = position
        return (self._updated(),)

    def started(self, header: bytes) -> Iterable[WireMessage]:  # noqa: ARG002 -- samples have none
        """Tell one who has waited that the waiting is over."""
        waited, self._session.position = self._session.position, 0
        return (self._updated(),) if waited else ()

    def tell(self, event: Event) -> Iterable[WireMessage]:
        """Tell the turns of the user, and the words of both sides."""
        match event:
            case AgentText():
                yield from self._responses.text(event.text)
            case UserSpeechStarted():
                yield from self._user_started(event)
            case UserSpeechStopped():
                yield from self._user.stopped(event.at)
            case UserText() if self._session.transcribes:
                yield from self._user.text(event)
            case _:
                pass
        yield from self._user.tick(event.at)

    def _user_started(self, event: UserSpeechStarted) -> Iterator[str]:
        detection = self._session.turn_detection
        always = detection is not None and detection.always
        told = always or (detection is not None and not self._responses.running)
        yield from self._user.started(event.at, told=told)
        if always:
            yield from self._responses.cut("turn_detected")

    def audio(self, pcm: NDArray[np.float32], payload: bytes) -> Iterable[WireMessage]:
        """Send the agent's frame, if it speaks."""
        yield from self._responses.frame(level_dbfs(pcm), payload)
        self._seconds += self._responses.frame_seconds
        yield from self._user.tick(self._seconds)

    def goodbye(self, reason: CloseReason, text: str) -> Iterable[WireMessage]:
        """End what is going on, and say what went wrong, if something did."""
        yield from self._user.finish()
        yield from self._responses.finish()
        if reason is not CloseReason.FINISHED:
            kind = "server_error" if reason.code >= CloseReason.FAILED.code else "invalid_request_error"
            yield error_message(reason.name.lower(), text, kind=kind)

    def _updated(self) -> str:
        return message("session.updated", session=self._session.resource())


def _metadata(given: Record) -> dict[str, JsonValue] | None:
    if given.values.get("metadata") is None:
        return None
    values = given.record("metadata").values
    if len(values) > MAX_METADATA or not all(
        isinstance(value, str) and len(key) + len(value) <= MAX_ID for key, value in values.items()
    ):
        raise given.wrong("metadata", f"at most {MAX_METADATA} strings of at most {MAX_ID} characters")
    return dict(values)
