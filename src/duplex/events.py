"""What a conversation tells its application: frozen, typed events.

Every event carries ``sequence``, which counts from 0 without gaps and is the only monotonic field, and ``at``, a place
on the session's time line in seconds. The time line is the frame clock (one frame is ``frame_duration`` seconds of
audio), never the wall clock: for a frame ``at`` is the start of its time step, for speech events the onset or the end
of the speech, which may lie before events that were sent earlier.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

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
    "Lag",
    "SessionEnded",
    "SessionStarted",
    "Usage",
    "UserSpeechStarted",
    "UserSpeechStopped",
    "as_record",
    "from_record",
]


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
    """What a session used.

    ``frames`` counts the frames that the model heard, ``seconds`` is their duration, ``dropped_seconds`` the user's
    audio that was skipped to keep up with real time (each skip was told in a :class:`Lag`).
    """

    frames: int
    seconds: float
    dropped_seconds: float


@attrs.frozen(kw_only=True)
class Event:
    """What all events have in common."""

    sequence: int
    at: float


@attrs.frozen(kw_only=True)
class SessionStarted(Event):
    """First event, once. ``seed`` replays the conversation: same input, options and seed give the same tokens."""

    session_id: str
    model: str
    seed: int
    sample_rate: int
    frame_duration: float


@attrs.frozen(kw_only=True, eq=False)
class AgentAudio(Event):
    """One frame of the agent's voice: ``pcm`` float32 ``[frame_size]``, the codec's output, unclipped."""

    pcm: NDArray[np.float32]


@attrs.frozen(kw_only=True)
class AgentText(Event):
    """A piece of the inner monologue, at the frame it is spoken in; a leading space starts a word."""

    text: str
    token: int


@attrs.frozen(kw_only=True)
class UserSpeechStarted(Event):
    """The user began to speak at ``at``; ``probability`` is the detector's, 0 to 1."""

    probability: float


@attrs.frozen(kw_only=True)
class UserSpeechStopped(Event):
    """The user's speech ended at ``at``; ``probability`` is the detector's, 0 to 1, in the silence after it."""

    probability: float


@attrs.frozen(kw_only=True)
class AgentSpeechStarted(Event):
    """The agent's level rose above -45 dBFS in two of three frames."""


@attrs.frozen(kw_only=True)
class AgentSpeechStopped(Event):
    """The agent's level stayed below -45 dBFS for five frames; ``at`` is the start of the first of them."""


@attrs.frozen(kw_only=True)
class Lag(Event):
    """Real time was lost: ``behind`` seconds of delay had built up, and ``dropped`` seconds of audio were dropped.

    ``side`` is ``"user"`` for audio that the model did not hear, ``"agent"`` for audio that was not delivered.
    """

    behind: float
    dropped: float
    side: Literal["user", "agent"]


@attrs.frozen(kw_only=True)
class SessionEnded(Event):
    """Last event, once."""

    reason: EndReason
    usage: Usage


def as_record(event: Event) -> dict[str, Any]:
    """Return an event as a JSON object with its ``type`` first; audio is left out.

    >>> as_record(AgentText(sequence=3, at=0.16, text=" hello", token=17))
    {'type': 'AgentText', 'sequence': 3, 'at': 0.16, 'text': ' hello', 'token': 17}
    """
    fields = attrs.asdict(event, filter=lambda attribute, _: attribute.name != "pcm")
    return {"type": type(event).__name__, **fields}


_KINDS: Mapping[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        SessionStarted,
        AgentText,
        UserSpeechStarted,
        UserSpeechStopped,
        AgentSpeechStarted,
        AgentSpeechStopped,
        Lag,
        SessionEnded,
    )
}


def from_record(record: Mapping[str, Any]) -> Event | None:
    """Return the event that :func:`as_record` made a record of; ``None`` if it is not one, or of a later version.

    >>> from_record({"type": "AgentText", "sequence": 3, "at": 0.16, "text": " hello", "token": 17})
    AgentText(sequence=3, at=0.16, text=' hello', token=17)
    """
    kind = _KINDS.get(str(record.get("type")))
    if kind is None:
        return None
    try:
        values = {field.name: record[field.name] for field in attrs.fields(kind)}
        if kind is SessionEnded:
            values |= {"reason": EndReason(values["reason"]), "usage": Usage(**values["usage"])}
        return kind(**values)
    except (KeyError, TypeError, ValueError):
        return None
