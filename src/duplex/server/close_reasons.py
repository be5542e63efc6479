"""Why a call ends, and what its caller is told."""

from collections.abc import Mapping
from enum import Enum

from starlette.websockets import WebSocketDisconnect

from duplex.errors import AudioError, AudioFileError, ConsumerTooSlow, ModelStalledError, StateError, UsageError
from duplex.server.admission import Refusal

__all__ = ["OF_REFUSAL", "CloseReason", "reason_of"]


class CloseReason(Enum):
    """Why a call ended: the websocket's close code, and what the caller is told."""

    FINISHED = 1000, "the conversation is over"
    HUNG_UP = 1000, "goodbye"
    TOO_LONG = 1000, "this conversation has reached the server's time limit; call again"
    NOT_BINARY = 1003, "text frames are not understood; send binary messages, as the protocol says"
    TOO_LARGE = 1009, "a message is larger than one may be; send less at a time"
    IDLE = 1008, "no audio came for too long; call again"
    SILENT = 1008, "nothing was asked for; begin with what the protocol begins with"
    BAD_AUDIO = 1008, "the audio cannot be understood"
    BAD_REQUEST = 1008, "the model cannot do what was asked for"
    TOO_SLOW = 1008, "the messages were not read; call again over a faster line"
    FAILED = 1011, "the conversation failed; call again"
    STALLED = 1011, "the model does not answer; call again in some minutes"
    DRAINING = 1012, "the server is about to restart; call again in a minute"
    FULL = 1013, "every place is taken, and the queue is full; call again later"
    WAITED = 1013, "no place became free in time; call again later"
    TOO_MANY = 1013, "your address has as many calls as it may have; end one of them first"
    MOVED = 1012, "the conversation goes on at another server"
    RESUME_MISMATCH = 4406, "the conversation cannot go on with the model of this server; call again"
    TAKEN_OVER = 4410, "the conversation goes on over another line, with the token that was given here"
    RESUME_USED = 4409, "this token has been used, and is good once; call again"
    RESUME_UNKNOWN = (
        4404,
        "no conversation waits for this token: it is over, was waited for long enough, or is another's; call again",
    )
    RESUME_BEHIND = 4413, "more was missed than is kept; call again"

    @property
    def code(self) -> int:
        """The close code (RFC 6455, section 7.4)."""
        return self.value[0]

    @property
    def text(self) -> str:
        """What is said."""
        return self.value[1]


OF_REFUSAL: Mapping[Refusal, CloseReason] = {
    Refusal.FULL: CloseReason.FULL,
    Refusal.TOO_MANY: CloseReason.TOO_MANY,
    Refusal.DRAINING: CloseReason.DRAINING,
    Refusal.WAITED: CloseReason.WAITED,
}
"""The reason for a call that was refused."""

_OF_ERRORS: tuple[tuple[type[Exception], CloseReason], ...] = (
    (UsageError, CloseReason.BAD_REQUEST),
    (AudioFileError, CloseReason.BAD_REQUEST),
    (AudioError, CloseReason.BAD_AUDIO),
    (StateError, CloseReason.RESUME_MISMATCH),
    (ConsumerTooSlow, CloseReason.TOO_SLOW),
    (ModelStalledError, CloseReason.STALLED),
    (WebSocketDisconnect, CloseReason.HUNG_UP),
)
_CALLERS_OWN = (CloseReason.BAD_REQUEST, CloseReason.BAD_AUDIO, CloseReason.RESUME_MISMATCH)
"""Reasons of what the caller asked for or sent: the error's own words say what to do."""


def reason_of(error: Exception) -> tuple[CloseReason, str]:
    """Return why a call ends with an error, and what its caller is told."""
    reason = next((reason for kind, reason in _OF_ERRORS if isinstance(error, kind)), CloseReason.FAILED)
    return reason, str(error) if reason in _CALLERS_OWN else reason.text
