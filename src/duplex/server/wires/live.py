"""``/v1/live/sessions``: the wire of OpenAI's Live clients, full duplex and without turns.

1. ``session.start`` comes first, and says all; ``session.started`` answers it when the conversation begins.
2. From then on every frame of the agent is told, silent ones too, and the words of both sides with their times.
3. What a model cannot hear (context that is appended as text) is answered with an ``error``, never with silence.
4. Whatever a client sends that makes no sense is answered with an ``error``, and the call goes on.

The messages are those of ``openai.types.live``.
"""

import base64
import time
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from duplex.events import AgentText, Event, JsonValue, Lag, SessionStarted, UserText
from duplex.parsing import shown
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import (
    Action,
    Audio,
    Begin,
    CallDescription,
    CallRequest,
    End,
    Opening,
    Reply,
    Wire,
    WireMessage,
)
from duplex.server.wires.json_messages import BadMessage, Record, dump, new_id, read_message
from duplex.server.wires.live_session import not_heard, read_request, session_resource

__all__ = ["LiveWire"]

USAGE_SECONDS = 5.0
"""Between two ``session.usage.updated``."""
SILENCE: Mapping[str, bytes] = {"pcm": b"\0", "mulaw": b"\xff", "alaw": b"\xd5"}
"""A byte of silence in each encoding."""
_CLOSED: Mapping[CloseReason, str] = {
    CloseReason.FINISHED: "close_requested",
    CloseReason.TOO_LONG: "expired",
}
"""The reasons of ``session.closed``; others are ``connection_lost``, with an error before it."""


class LiveWire(Wire):
    """A caller on ``/v1/live/sessions``."""

    may_pause = True  # a muted microphone sends nothing, and the session goes on

    def __init__(self, _: Opening) -> None:
        self._request = CallRequest()
        self._description: CallDescription | None = None
        self._notes: list[str] = []
        """What the client asked for and does not get."""
        self._start_event: str | None = None
        """The client's name for its ``session.start``."""
        self._session: dict[str, JsonValue] | None = None
        """As the client has been told, once it has."""
        self._asked = False
        self._muted = False
        self._seconds = 0.0
        """Of the agent's audio that have been sent."""
        self._usage_due = USAGE_SECONDS

    def receive(self, message: WireMessage) -> Iterable[Action]:
        """Take a command."""
        client_id: str | None = None
        try:
            record = read_message(message)
            client_id = record.text("event_id")
            return self._obey(record, client_id)
        except BadMessage as error:
            return (Reply(_error(error.code, str(error), client_id, error.param)),)

    def _obey(self, record: Record, client_id: str | None) -> Iterable[Action]:
        kind = record.text("type") or ""
        if not self._asked and kind != "session.start":
            raise BadMessage("session_not_started", f"{shown(kind)} came before session.start; begin with that", "type")
        match kind:
            case "session.start":
                return self._start(record, client_id)
            case "session.input_audio.append":
                return self._append_audio(record)
            case "session.input_audio.mute" | "session.input_audio.unmute":
                return self._mute(kind, client_id)
            case "session.instructions.append" | "session.thinking.append" | "session.commentary.append":
                raise BadMessage("not_supported", f"these models hear sound alone; {kind} reaches nobody", "content")
            case "session.update":
                return self._update(record, client_id)
            case "session.close":
                return (End(CloseReason.FINISHED),)
            case _:
                raise BadMessage("unknown_event", f"there is no command {shown(kind)} here", "type")

    def _start(self, record: Record, client_id: str | None) -> Iterable[Action]:
        if self._asked:
            raise BadMessage("session_already_started", "the session has been started; open another line", "type")
        session = record.record("session")
        self._request, self._notes = read_request(session), not_heard(session)
        self._start_event, self._asked = client_id, True
        return (Begin(self._request),)

    def _append_audio(self, record: Record) -> Iterable[Action]:
        payload = record.audio("audio")
        if self._session is None or not payload:
            return ()  # clients withhold it until the session has started
        return (Audio(SILENCE[self._request.heard.encoding] * len(payload) if self._muted else payload),)

    def _mute(self, kind: str, client_id: str | None) -> Iterable[Action]:
        self._muted = kind == "session.input_audio.mute"
        return (Reply(_event(f"session.input_audio.{'muted' if self._muted else 'unmuted'}", client_id)),)

    def _update(self, record: Record, client_id: str | None) -> Iterable[Action]:
        session = record.record("session")
        changed = [name for name in session.values if name not in ("delegation", "triggers")]
        if changed:
            raise BadMessage("immutable", f"{', '.join(changed)[:200]} cannot change after the start", "session")
        if self._session is None:
            raise BadMessage("session_not_started", "the session has not started yet; wait for session.started")
        notes = [_info("not_supported", note) for note in not_heard(session)]
        updated = _event("session.updated", client_id, session=self._session)
        return [Reply(each) for each in (updated, *notes)]

    def admitted(self, description: CallDescription) -> Iterable[WireMessage]:
        """Note what the client gets."""
        self._description = description
        self._notes += description.left_out
        return ()

    def waiting(self, position: int) -> Iterable[WireMessage]:
        """Tell the place in the queue."""
        return (_info("queued", f"every place is taken; you are number {position} in the queue"),)

    def tell(self, event: Event) -> Iterable[WireMessage]:
        """Tell the start, the words of both sides, and what was lost."""
        match event:
            case SessionStarted():
                yield from self._started(event)
            case AgentText():
                yield self._words("output", event.text, event.at, event.at + self._frame)
            case UserText():
                yield self._words("input", f" {event.text}", event.start, event.end)
            case Lag():
                yield _info(
                    "lag", f"{event.dropped:.2f} s of the {event.side}'s audio were dropped at {event.at:.2f} s"
                )
            case _:
                pass

    def audio(self, pcm: NDArray[np.float32], payload: bytes) -> Iterable[WireMessage]:  # noqa: ARG002 -- coded already
        """Send the agent's frame, silent or not."""
        yield dump({"type": "session.output_audio.delta", "delta": base64.b64encode(payload).decode()})
        self._seconds += self._frame
        if self._seconds >= self._usage_due:
            self._usage_due += USAGE_SECONDS
            yield _event("session.usage.updated", usage=self._usage)

    def goodbye(self, reason: CloseReason, text: str) -> Iterable[WireMessage]:
        """Say why the session has ended."""
        if reason not in _CLOSED:
            yield _error(reason.name.lower(), text, None if self._session else self._start_event)
        if self._session is not None:
            closed = _CLOSED.get(reason, "connection_lost")
            yield _event("session.closed", reason=closed, session=self._session, usage=self._usage)

    def _started(self, event: SessionStarted) -> Iterable[WireMessage]:
        if self._description is None:
            return
        self._session = session_resource(event.session_id, time.time(), self._request, self._description)
        yield _event("session.started", self._start_event, session=self._session)
        for note in self._notes:
            yield _info("not_supported", note)

    def _words(self, side: str, text: str, start: float, end: float) -> str:
        start_ms, end_ms = round(start * 1000), round(end * 1000)
        return _event(f"session.{side}_transcript.delta", delta=text, start_ms=start_ms, end_ms=end_ms)

    @property
    def _frame(self) -> float:
        return 0.0 if self._description is None else self._description.frame_duration

    @property
    def _usage(self) -> dict[str, JsonValue]:
        return {"seconds": round(self._seconds, 2)}


def _event(kind: str, client_id: str | None = None, **values: JsonValue) -> str:
    record: dict[str, JsonValue] = {"type": kind, "event_id": new_id("event"), **values}
    if client_id is not None:
        record["client_event_id"] = client_id
    return dump(record)


def _info(code: str, text: str) -> str:
    return _event("info", code=code, message=text)


def _error(code: str, text: str, client_id: str | None = None, param: str | None = None) -> str:
    error: dict[str, JsonValue] = {"type": "invalid_request_error", "code": code, "message": text}
    optional: dict[str, JsonValue] = {"param": param, "client_event_id": client_id}
    return _event("error", client_id, error=error | {name: each for name, each in optional.items() if each is not None})
