"""What both ends of Live are told, the caller's and an observer's: the session, words, usage, errors, the end.

The messages are those of ``openai.types.live``.
"""

from collections.abc import Callable, Iterable, Mapping

import attrs

from duplex.events import AgentText, Event, JsonValue, Lag, UserText
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import Action, Reply, WireMessage
from duplex.server.wires.json_messages import BadMessage, Record, dump, new_id, read_message
from duplex.server.wires.live_session import not_heard

__all__ = ["SessionTeller", "make_error", "make_event", "make_info", "obeyed", "refuse_text"]

USAGE_SECONDS = 5.0
"""Between two ``session.usage.updated``."""
_CLOSED: Mapping[CloseReason, str] = {
    CloseReason.FINISHED: "close_requested",
    CloseReason.HUNG_UP: "connection_lost",
    CloseReason.TOO_LONG: "expired",
}
"""The reasons of ``session.closed``; others are ``connection_lost``, with an error before it."""


@attrs.define
class SessionTeller:
    """Tells of one session."""

    session: dict[str, JsonValue] | None = None
    """As the client has been told, once it has."""
    seconds: float = 0.0
    """Of the session that have passed."""
    _usage_due: float = USAGE_SECONDS

    def started(self, session: dict[str, JsonValue], client_id: str | None = None) -> str:
        """Tell that a session has started."""
        self.session = session
        return make_event("session.started", client_id, session=session)

    def tell(self, event: Event, frame_duration: float) -> Iterable[str]:
        """Tell the words of both sides, and what was lost."""
        match event:
            case AgentText():
                yield _words("output", event.text, event.at, event.at + frame_duration)
            case UserText():
                yield _words("input", f" {event.text}", event.start, event.end)
            case Lag(at=at, side=side, dropped=dropped):
                yield make_info("lag", f"{dropped:.2f} s of the {side}'s audio were dropped at {at:.2f} s")
            case _:
                pass

    def pass_time(self, seconds: float) -> Iterable[str]:
        """Note how long the session has lasted, and tell it now and then."""
        self.seconds = seconds
        if seconds >= self._usage_due:
            self._usage_due = (seconds // USAGE_SECONDS + 1) * USAGE_SECONDS
            yield make_event("session.usage.updated", usage=self._usage)

    def update(self, record: Record, client_id: str | None) -> Iterable[str]:
        """Answer ``session.update``, which changes nothing: what it may change is not done here.

        :raises BadMessage: if it makes no sense
        """
        session = record.record("session")
        changed = [name for name in session.values if name not in ("delegation", "triggers")]
        if changed:
            raise BadMessage("immutable", f"{', '.join(changed)[:200]} cannot change after the start", "session")
        if self.session is None:
            raise BadMessage("session_not_started", "the session has not started yet; wait for session.started")
        notes = [make_info("not_supported", note) for note in not_heard(session)]
        return [make_event("session.updated", client_id, session=self.session), *notes]

    def close(self, reason: CloseReason, text: str, client_id: str | None = None) -> Iterable[str]:
        """Say why a session has ended, or not begun."""
        if reason not in _CLOSED:
            yield make_error(reason.name.lower(), text, None if self.session else client_id)
        if self.session is not None:
            closed = _CLOSED.get(reason, "connection_lost")
            yield make_event("session.closed", reason=closed, session=self.session, usage=self._usage)

    @property
    def _usage(self) -> dict[str, JsonValue]:
        return {"seconds": round(self.seconds, 2)}


def refuse_text(kind: str) -> BadMessage:
    """Return the answer to a command that has text for the model."""
    return BadMessage("not_supported", f"these models hear sound alone; {kind} reaches nobody", "content")


def make_event(kind: str, client_id: str | None = None, **values: JsonValue) -> str:
    """Return an event, which answers the command that the client calls ``client_id``, if any."""
    record: dict[str, JsonValue] = {"type": kind, "event_id": new_id("event"), **values}
    if client_id is not None:
        record["client_event_id"] = client_id
    return dump(record)


def make_info(code: str, text: str) -> str:
    """Return a notice."""
    return make_event("info", code=code, message=text)


def obeyed(message: WireMessage, obey: Callable[[Record, str | None], Iterable[Action]]) -> Iterable[Action]:
    """Let a command be obeyed, which is given with its client's id; answer one that makes no sense."""
    client_id: str | None = None
    try:
        record = read_message(message)
        client_id = record.text("event_id")
        return obey(record, client_id)
    except BadMessage as problem:
        return (Reply(make_error(problem.code, str(problem), client_id, problem.param)),)


def make_error(code: str, text: str, client_id: str | None = None, param: str | None = None) -> str:
    """Return an error, in the parameter ``param`` of the command that the client calls ``client_id``, if any."""
    values: dict[str, JsonValue] = {"type": "invalid_request_error", "code": code, "message": text}
    optional: dict[str, JsonValue] = {"param": param, "client_event_id": client_id}
    return make_event(
        "error", client_id, error=values | {name: each for name, each in optional.items() if each is not None}
    )


def _words(side: str, text: str, start: float, end: float) -> str:
    start_ms, end_ms = round(start * 1000), round(end * 1000)
    return make_event(f"session.{side}_transcript.delta", delta=text, start_ms=start_ms, end_ms=end_ms)
