"""The events of a conversation: frozen attrs classes, and :data:`Event`, the union of them all.

Every event carries ``sequence``, which counts from 0 without gaps and is the only monotonic field, and ``at``, a place
on the session's time line in seconds, rounded to the microsecond. The time line is the frame clock (one frame is
``frame_duration`` seconds of audio), never the wall clock: for a frame ``at`` is the start of its time step, for speech
events the onset or the end of the speech, which may lie before events that were sent earlier.

``match`` over an :data:`Event` with a case for each class and :func:`typing.assert_never` at the end is checked by type
checkers, which then name an event class that a later version has added.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, TypeAlias, get_args

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AgentAudio",
    "AgentSpeechStarted",
    "AgentSpeechStopped",
    "AgentText",
    "EndReason",
    "Event",
    "JsonValue",
    "KeyPressed",
    "Lag",
    "SessionEnded",
    "SessionStarted",
    "TimedEvent",
    "Usage",
    "UserSpeechStarted",
    "UserSpeechStopped",
    "UserText",
    "event_from_dict",
]

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"
"""What JSON can hold."""


class EndReason(StrEnum):
    """Why a session ended."""

    FINISHED = "finished"
    """The user's audio came to its end and the agent's was flushed."""
    FAILED = "failed"
    """Something raised; the conversation's iterator raises the same error next."""
    CONSUMER_TOO_SLOW = "consumer_too_slow"
    """The application did not read its events for more than 30 seconds of live audio."""
    REFUSED = "refused"
    """A server had no place; the iterator raises its reason next."""
    DISCONNECTED = "disconnected"
    """A server ended the conversation, or the connection was lost; the iterator raises why next."""


@attrs.frozen(kw_only=True)
class Usage:
    """What a session has consumed.

    ``frames`` counts the frames that the model processed, ``seconds`` is their duration, ``dropped_seconds`` the user's
    audio that was skipped to keep up with real time (each skip was reported in a :class:`Lag`).
    """

    frames: int
    seconds: float
    dropped_seconds: float


def _to_microsecond(seconds: float) -> float:
    return round(float(seconds), 6)


@attrs.frozen(kw_only=True)
class TimedEvent:
    """Base class of all events: ``sequence``, and ``at`` in seconds, rounded to the microsecond."""

    sequence: int
    at: float = attrs.field(converter=_to_microsecond)

    def as_dict(self) -> dict[str, JsonValue]:
        """Return the event as what JSON can hold: ``type``, its class's name, first, then its fields; no audio.

        >>> AgentText(sequence=3, at=0.16, text=" hello", token=17).as_dict()
        {'type': 'AgentText', 'sequence': 3, 'at': 0.16, 'text': ' hello', 'token': 17}
        """
        fields = attrs.asdict(
            self,
            filter=lambda attribute, _: attribute.name != "pcm",
            value_serializer=lambda _instance, _attribute, value: str(value) if isinstance(value, StrEnum) else value,
        )
        return {"type": type(self).__name__, **fields}


@attrs.frozen(kw_only=True)
class SessionStarted(TimedEvent):
    """The session has begun: the first event, once.

    ``seed`` replays the conversation: same input, options and seed give the same tokens. A call that a server refuses
    has no session, so its only event is :class:`SessionEnded`; a remote conversation that restarts after its connection
    was lost has one ``SessionStarted`` for each session.
    """

    session_id: str
    model: str
    seed: int
    sample_rate: int
    frame_duration: float


@attrs.frozen(kw_only=True, eq=False)
class AgentAudio(TimedEvent):
    """One frame of the agent's voice: ``pcm`` float32 ``[frame_size]``, the codec's output, unclipped."""

    pcm: NDArray[np.float32]


@attrs.frozen(kw_only=True)
class AgentText(TimedEvent):
    """A piece of the inner monologue, at the frame it is spoken in; a leading space starts a word."""

    text: str
    token: int


@attrs.frozen(kw_only=True)
class UserSpeechStarted(TimedEvent):
    """The user began to speak at ``at``; ``probability`` is the detector's, 0 to 1."""

    probability: float


@attrs.frozen(kw_only=True)
class UserSpeechStopped(TimedEvent):
    """The user's speech ended at ``at``; ``probability`` is the detector's, 0 to 1, in the silence after it."""

    probability: float


@attrs.frozen(kw_only=True)
class UserText(TimedEvent):
    """What the user said from ``start`` to ``end``, in seconds of the user's audio: a word, without spaces around it.

    It comes from a recognition model, or from a transcriber beside another model; ``at`` is its ``start``, which lies
    before events that were sent earlier. In languages written without spaces it is a longer piece. Pieces joined by
    spaces are the text.
    """

    text: str
    start: float = attrs.field(converter=_to_microsecond)
    end: float = attrs.field(converter=_to_microsecond)


@attrs.frozen(kw_only=True)
class AgentSpeechStarted(TimedEvent):
    """The agent's level rose above -45 dBFS in two of three frames."""


@attrs.frozen(kw_only=True)
class AgentSpeechStopped(TimedEvent):
    """The agent's level stayed below -45 dBFS for five frames; ``at`` is the start of the first of them."""


@attrs.frozen(kw_only=True)
class KeyPressed(TimedEvent):
    """The user pressed a key of a telephone: ``key`` is one of ``0123456789*#ABCD``. Models do not hear it."""

    key: str


@attrs.frozen(kw_only=True)
class Lag(TimedEvent):
    """Real time was lost: ``behind`` seconds of delay had built up, and ``dropped`` seconds of audio were dropped.

    ``side`` is ``"user"`` for audio that the model did not hear, ``"agent"`` for audio that was not delivered, and
    ``"transcript"`` for the user's audio that a transcriber beside the model left out.
    """

    behind: float
    dropped: float
    side: Literal["user", "agent", "transcript"]


@attrs.frozen(kw_only=True)
class SessionEnded(TimedEvent):
    """The session has ended: the last event, once."""

    reason: EndReason
    usage: Usage


Event: TypeAlias = (
    SessionStarted
    | AgentAudio
    | AgentText
    | UserSpeechStarted
    | UserSpeechStopped
    | UserText
    | AgentSpeechStarted
    | AgentSpeechStopped
    | KeyPressed
    | Lag
    | SessionEnded
)
"""Any event of a conversation."""

_CLASSES: Mapping[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event) if kind is not AgentAudio}


def event_from_dict(data: Mapping[str, Any]) -> Event | None:
    """Return the event that :meth:`TimedEvent.as_dict` made ``data`` of; ``None`` if it is none, or of a later version.

    >>> event_from_dict({"type": "AgentText", "sequence": 3, "at": 0.16, "text": " hello", "token": 17})
    AgentText(sequence=3, at=0.16, text=' hello', token=17)
    """
    kind = _CLASSES.get(str(data.get("type")))
    if kind is None:
        return None
    try:
        values = {field.name: data[field.name] for field in attrs.fields(kind)}
        if kind is SessionEnded:
            values |= {"reason": EndReason(values["reason"]), "usage": Usage(**values["usage"])}
        return kind(**values)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
