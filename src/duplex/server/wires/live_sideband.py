"""``/v1/live/sessions/{id}/attach``: the wire of an observer, who hears both sides of a session and may steer it.

1. ``session.started`` comes first: the session as it is. Then comes what is said, as it is said.
2. The caller's audio comes as it arrives, before a mute; the agent's with its times. Both are 16 bit at 24 kHz.
3. An observer may mute the caller and close the session. Audio is the caller's to send, and text reaches no model:
   both are answered with an ``error``, like whatever makes no sense.

The messages are those of ``openai.types.live`` (``ConnectServerEvent``, ``ConnectClientEvent``).
"""

import base64
import time
from collections.abc import Iterable

import attrs

from duplex.events import Event, JsonValue, KeyPressed
from duplex.parsing import shown
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import Action, CallDescription, CallRequest, End, MuteUser, Reply, WireMessage
from duplex.server.wires.json_messages import BadMessage, Record, dump
from duplex.server.wires.live_messages import SessionTeller, make_error, make_event, make_info, obeyed, refuse_text
from duplex.server.wires.live_session import session_resource

__all__ = ["ObservedSession", "SidebandWire"]


@attrs.frozen(kw_only=True)
class ObservedSession:
    """What a session is, for whoever joins it later."""

    session_id: str
    request: CallRequest
    description: CallDescription
    began: float = attrs.field(factory=time.time)
    """In seconds since 1970."""

    def resource(self) -> dict[str, JsonValue]:
        """Return it as a ``SessionResource``."""
        return session_resource(self.session_id, self.began, self.request, self.description)


class SidebandWire:
    """An observer of a session."""

    def __init__(self, session: ObservedSession) -> None:
        self._observed = session
        self._frame = session.description.frame_duration
        self._teller = SessionTeller()

    def opened(self) -> Iterable[WireMessage]:
        """Tell what is observed."""
        return (self._teller.started(self._observed.resource()),)

    def receive(self, message: WireMessage) -> Iterable[Action]:
        """Take a command."""
        return obeyed(message, self._obey)

    def _obey(self, record: Record, client_id: str | None) -> Iterable[Action]:
        kind = record.text("type") or ""
        match kind:
            case "session.input_audio.mute" | "session.input_audio.unmute":
                muted = kind == "session.input_audio.mute"
                told = make_event(f"session.input_audio.{'muted' if muted else 'unmuted'}", client_id)
                return (MuteUser(muted), Reply(told))
            case "session.update":
                return [Reply(each) for each in self._teller.update(record, client_id)]
            case "session.close":
                return (End(CloseReason.FINISHED),)
            case "session.instructions.append" | "session.thinking.append" | "session.commentary.append":
                raise refuse_text(kind)
            case "session.input_audio.append":
                raise BadMessage(
                    "not_supported", "only the session's own caller sends audio; an observer hears", "type"
                )
            case "session.start":
                raise BadMessage("session_already_started", "the session has been started by its caller", "type")
            case _:
                raise BadMessage("unknown_event", f"there is no command {shown(kind)} here", "type")

    def heard(self, payload: bytes) -> Iterable[WireMessage]:
        """Tell what the caller sent: 16 bit, 24 kHz."""
        yield dump({"type": "session.input_audio.append", "audio": base64.b64encode(payload).decode()})

    def said(self, at: float, payload: bytes) -> Iterable[WireMessage]:
        """Tell the agent's frame that begins ``at`` seconds: 16 bit, 24 kHz."""
        end = at + self._frame
        yield dump(
            {
                "type": "session.output_audio.delta",
                "delta": base64.b64encode(payload).decode(),
                "start_ms": round(at * 1000),
                "end_ms": round(end * 1000),
            }
        )
        yield from self._teller.pass_time(end)

    def tell(self, event: Event) -> Iterable[WireMessage]:
        """Tell the words of both sides, keys, and what was lost."""
        if isinstance(event, KeyPressed):
            yield make_event("transport.dtmf.received", event=event.key)
        yield from self._teller.tell(event, self._frame)

    def dropped(self, count: int) -> Iterable[WireMessage]:
        """Tell that an observer who reads too slowly has missed the oldest of what was to be told."""
        yield make_info("observer_lag", f"{count} messages were left out; read faster, or over a faster line")

    def sent_away(self, reason: CloseReason, text: str) -> Iterable[WireMessage]:
        """Say why the session, which goes on, is observed no longer."""
        yield make_error(reason.name.lower(), text)

    def goodbye(self, reason: CloseReason, text: str) -> Iterable[WireMessage]:
        """Say why the session has ended."""
        return self._teller.close(reason, text)
