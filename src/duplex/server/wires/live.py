"""``/v1/live/sessions``: the wire of OpenAI's Live clients, full duplex and without turns.

1. ``session.start`` comes first, and says all; ``session.started`` answers it when the conversation begins.
2. From then on every frame of the agent is told, silent ones too, and the words of both sides with their times.
3. What a model cannot hear (context that is appended as text) is answered with an ``error``, never with silence.
4. Whatever a client sends that makes no sense is answered with an ``error``, and the call goes on.

The messages are those of ``openai.types.live``.
"""

import base64
import time
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from duplex.events import Event, SessionStarted
from duplex.parsing import shown
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import (
    Action,
    Audio,
    Begin,
    CallDescription,
    CallRequest,
    End,
    MuteUser,
    Opening,
    Reply,
    Wire,
    WireMessage,
)
from duplex.server.wires.json_messages import BadMessage, Record, dump
from duplex.server.wires.live_messages import SessionTeller, make_event, make_info, obeyed, refuse_text
from duplex.server.wires.live_session import not_heard, read_request, session_resource
from duplex.server.wires.openai_audio import read_audio

__all__ = ["LiveWire"]


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
        self._asked = False
        self._teller = SessionTeller()

    def receive(self, message: WireMessage) -> Iterable[Action]:
        """Take a command."""
        return obeyed(message, self._obey)

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
                muted = kind == "session.input_audio.mute"
                told = make_event(f"session.input_audio.{'muted' if muted else 'unmuted'}", client_id)
                return (MuteUser(muted), Reply(told))
            case "session.instructions.append" | "session.thinking.append" | "session.commentary.append":
                raise refuse_text(kind)
            case "session.update":
                return [Reply(each) for each in self._teller.update(record, client_id)]
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
        payload = read_audio(record, self._request.heard)
        if self._teller.session is None or not payload:
            return ()  # clients withhold it until the session has started
        return (Audio(payload),)

    def admitted(self, description: CallDescription) -> Iterable[WireMessage]:
        """Note what the client gets."""
        self._description = description
        self._notes += description.left_out
        return ()

    def waiting(self, position: int) -> Iterable[WireMessage]:
        """Tell the place in the queue."""
        return (make_info("queued", f"every place is taken; you are number {position} in the queue"),)

    def tell(self, event: Event) -> Iterable[WireMessage]:
        """Tell the start, the words of both sides, and what was lost."""
        if isinstance(event, SessionStarted):
            yield from self._started(event)
        yield from self._teller.tell(event, self._frame)

    def audio(self, pcm: NDArray[np.float32], payload: bytes) -> Iterable[WireMessage]:  # noqa: ARG002 -- coded already
        """Send the agent's frame, silent or not."""
        yield dump({"type": "session.output_audio.delta", "delta": base64.b64encode(payload).decode()})
        yield from self._teller.pass_time(self._teller.seconds + self._frame)

    def goodbye(self, reason: CloseReason, text: str) -> Iterable[WireMessage]:
        """Say why the session has ended."""
        return self._teller.close(reason, text, self._start_event)

    def _started(self, event: SessionStarted) -> Iterable[WireMessage]:
        if self._description is None:
            return
        session = session_resource(event.session_id, time.time(), self._request, self._description)
        yield self._teller.started(session, self._start_event)
        for note in self._notes:
            yield make_info("not_supported", note)

    @property
    def _frame(self) -> float:
        return 0.0 if self._description is None else self._description.frame_duration
