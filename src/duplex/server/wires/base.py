"""What a wire is: one caller's protocol as a state machine, without sockets, clocks or a model.

1. :meth:`Wire.receive` turns a caller's message into actions (:data:`Action`); the call carries them out.
2. Everything else turns what happens in the call into messages to the caller, in the order in which they are sent.
3. A wire whose address says everything has its :attr:`Wire.request` from the beginning; on others a caller's message
   is a :class:`Begin`. What is heard before that is the wire's to refuse.
4. A caller may send anything: a wire raises nothing but what it says.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.wire_codecs import AudioFormat
from duplex.events import Event
from duplex.frame_model import Frame
from duplex.options import SessionOptions
from duplex.server.close_reasons import CloseReason
from duplex.transcription.words import Placement, WordTimes

__all__ = [
    "Action",
    "Audio",
    "Begin",
    "CallDescription",
    "CallRequest",
    "End",
    "Finish",
    "Interrupt",
    "MuteAgent",
    "MuteUser",
    "Opening",
    "Present",
    "PressKey",
    "Reply",
    "Resumption",
    "Wire",
    "WireMessage",
]

WireMessage: TypeAlias = str | bytes
"""A websocket's message: text or binary."""


@attrs.frozen(kw_only=True)
class Opening:
    """The request that opened a websocket."""

    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By names in lower case."""
    subprotocols: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class CallRequest:
    """What a caller asks for."""

    options: SessionOptions = attrs.field(factory=SessionOptions)
    model: str | None = None
    heard: AudioFormat = attrs.field(factory=AudioFormat)
    """The format of the caller's audio."""
    said: AudioFormat = attrs.field(factory=AudioFormat)
    """The format of the agent's."""
    lenient: bool = False
    """Whether a model or a persona that cannot be had is left out and told, rather than refused: what a client sends
    without anybody having asked for it must not end a call."""
    persona_optional: bool = False
    """The same of a persona alone."""
    recognition: bool = False
    """Whether only a model that recognises speech will do."""
    held_back: bool = False
    """Whether the caller's audio comes as fast as the model takes it: none is too late, and none is made up."""
    flush_on_pause: bool = False
    """Whether a model that recognises speech tells the last words as soon as the caller stops."""


@attrs.frozen(kw_only=True)
class CallDescription:
    """What a caller has got."""

    model: str
    sample_rate: int
    frame_duration: float
    """Seconds."""
    options: SessionOptions
    """With what has been left out taken away."""
    left_out: tuple[str, ...] = ()
    """What the model cannot take of what was asked for, a sentence each."""
    recognition: bool = False
    """Whether the model writes down what it hears and says nothing."""
    placement: Placement | None = None
    """Of such a model where the caller's audio lies in what it hears."""
    words: Callable[[], WordTimes] | None = None
    """Of such a model makes what builds words from tokens."""
    seconds: float | None = None
    """After which the server ends the call, if it does."""


@attrs.frozen(kw_only=True)
class Resumption:
    """How a caller goes on with the conversation when the line has broken."""

    token: str = attrs.field(repr=False)
    generation: int
    """Of the token, from 1; an older one is not good any more."""
    seconds: float
    """That the conversation waits for."""
    away: float = 0.0
    """Seconds that nobody was there, of one who has come back."""
    again: int = 0
    """Messages that follow at once, which such a one has not heard."""
    heard: int = 0
    """Messages of sound that have come from the caller."""


@attrs.frozen
class Begin:
    """Let the caller in."""

    request: CallRequest


@attrs.frozen
class Audio:
    """Hear this, in the format that was asked for."""

    payload: bytes


@attrs.frozen
class Reply:
    """Send this."""

    message: WireMessage


@attrs.frozen
class Finish:
    """The caller says nothing more: let the agent finish, then end."""


@attrs.frozen
class Interrupt:
    """Let nothing more be heard of what the agent is saying."""


@attrs.frozen
class MuteAgent:
    """Let nothing be heard of the agent, or hear it again."""

    muted: bool


@attrs.frozen
class MuteUser:
    """Let the model hear silence in the caller's place, or the caller again."""

    muted: bool


@attrs.frozen
class Present:
    """The caller is there, though no audio may come for a while."""


@attrs.frozen
class PressKey:
    """Note that the caller pressed a key of a telephone; what is none is ignored."""

    key: str


@attrs.frozen
class End:
    """End the call at once."""

    reason: CloseReason
    text: str = ""
    """What the caller is told, if it is not what the reason says."""


Action: TypeAlias = Begin | Audio | Reply | Finish | Interrupt | MuteAgent | MuteUser | Present | PressKey | End
"""What a caller wants."""


class Wire(ABC):
    """One caller's protocol."""

    request: CallRequest | None = None
    """What the caller asks for, once that is known."""
    may_pause: bool = False
    """Whether a caller may send nothing for as long as nobody speaks, and counts as there while the websocket lives."""
    resumes: bool = False
    """Whether the caller may come back when the line has broken, and is told how."""
    tells_frames: bool = False
    """Whether the caller is told of each frame by :meth:`stepped`."""

    @abstractmethod
    def receive(self, message: WireMessage) -> Iterable[Action]:
        """Take a message of the caller."""

    def opened(self) -> Iterable[WireMessage]:
        """Greet: the websocket has been accepted."""
        return ()

    def admitted(self, description: CallDescription) -> Iterable[WireMessage]:  # noqa: ARG002 -- most wait for the start
        """Tell that the caller is let in, perhaps into the queue."""
        return ()

    def waiting(self, position: int) -> Iterable[WireMessage]:  # noqa: ARG002 -- most protocols have no words for it
        """Tell the caller's place in the queue, from 1."""
        return ()

    def keep_alive(self) -> Iterable[WireMessage]:
        """Say something to one who waits and has heard nothing for some seconds."""
        return ()

    def started(self, header: bytes) -> Iterable[WireMessage]:  # noqa: ARG002 -- only containers have a header
        """Tell that the caller is heard; ``header`` is what the agent's audio begins with, perhaps nothing."""
        return ()

    def resumable(self, resumption: Resumption) -> Iterable[WireMessage]:  # noqa: ARG002 -- most have no words for it
        """Tell how to go on when the line breaks; after ``SessionStarted``, and to each caller who has come back."""
        return ()

    def moved(self, url: str) -> Iterable[WireMessage]:  # noqa: ARG002 -- most have no words for it
        """Tell where the conversation goes on; only to one who has been told how to come back."""
        return ()

    def counts(self, message: WireMessage) -> bool | None:  # noqa: ARG002 -- nobody counts who cannot come back
        """Tell of a message, in either direction, whether it is sound; ``None`` for one that nobody misses."""
        return None

    @abstractmethod
    def tell(self, event: Event) -> Iterable[WireMessage]:
        """Tell what has happened; audio comes by :meth:`audio`, the first of it after ``SessionStarted``."""

    def stepped(self, frame: Frame) -> Iterable[WireMessage]:  # noqa: ARG002 -- most tell of events alone
        """Tell what a frame has brought."""
        return ()

    def wants(self, pcm: NDArray[np.float32]) -> bool:  # noqa: ARG002 -- most want all
        """Tell whether the agent's next frame, float32 ``[frame_size]``, is sent at all; it is asked of each once."""
        return True

    @abstractmethod
    def audio(self, pcm: NDArray[np.float32], payload: bytes) -> Iterable[WireMessage]:
        """Send the agent's next frame: float32 ``[frame_size]``, and as bytes in the format that was asked for."""

    @abstractmethod
    def goodbye(self, reason: CloseReason, text: str) -> Iterable[WireMessage]:
        """Say the last; the websocket is closed next."""
