"""``/twilio``, ``/telnyx``, ``/plivo``: telephone calls, as these services stream them. One wire, a dialect each.

1. The service says ``start``, with the stream's name and format; then comes audio, in pieces of 20 ms, until ``stop``.
2. The agent's audio goes out as it is made. A mark a second comes back when it has been played: when too many are
   missing, the service holds back more than a caller should wait for, and is told to throw it away.
3. Keys that the caller presses are events (``KeyPressed``).
4. What cannot be understood is ignored: a telephone has nobody to tell.

Facts: Twilio's Media Streams (bidirectional), Telnyx's media streaming, Plivo's audio streams.
"""

import base64
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.wire_codecs import AudioFormat
from duplex.errors import UsageError
from duplex.events import Event, JsonValue
from duplex.server.call_parameters import CallParameters
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import (
    Action,
    Audio,
    Begin,
    CallDescription,
    CallRequest,
    End,
    Opening,
    PressKey,
    Wire,
    WireMessage,
)
from duplex.server.wires.json_messages import BadMessage, Record, dump, read_message

__all__ = ["DIALECTS", "Dialect", "MediaStreamWire"]

MARK_SECONDS = 1.0
"""Of the agent's audio between two marks."""
MARKS_HELD = 3
"""Marks that may be missing; with more, the service holds back as many seconds."""
_ENCODINGS: Mapping[str, AudioFormat] = {
    "audio/x-mulaw": AudioFormat("mulaw", 8000),
    "audio/x-alaw": AudioFormat("alaw", 8000),
    "pcmu": AudioFormat("mulaw", 8000),
    "pcma": AudioFormat("alaw", 8000),
}


@attrs.frozen(kw_only=True)
class Dialect:
    """What the services say differently."""

    stream_id: str
    """The name of the stream's name, at the top of a message."""
    media_format: str
    """The name of the format, in ``start``."""
    parameters: str | None = None
    """The name of what whoever set up the call has added, in ``start``."""
    play: str = "media"
    mark: str = "mark"
    played: str = "mark"
    """What comes back when a mark has been played."""
    clear: str = "clear"
    names_stream: bool = True
    """Whether what is sent bears the stream's name."""
    describes_audio: bool = False
    """Whether what is played bears its format."""

    def say(self, event: str, stream: str, values: Mapping[str, JsonValue]) -> str:
        """Return a message to the service."""
        named: dict[str, JsonValue] = {self.stream_id: stream} if self.names_stream else {}
        return dump({"event": event, **named, **values})


DIALECTS: Mapping[str, Dialect] = {
    "twilio": Dialect(stream_id="streamSid", media_format="mediaFormat", parameters="customParameters"),
    "telnyx": Dialect(stream_id="stream_id", media_format="media_format", names_stream=False),
    "plivo": Dialect(
        stream_id="streamId",
        media_format="mediaFormat",
        play="playAudio",
        mark="checkpoint",
        played="playedStream",
        clear="clearAudio",
        describes_audio=True,
    ),
}


class MediaStreamWire(Wire):
    """A caller on a telephone."""

    def __init__(self, dialect: Dialect, opening: Opening) -> None:
        self._dialect = dialect
        self._query = opening.query
        self._stream = ""
        self._format = AudioFormat("mulaw", 8000)
        self._seconds = 0.0
        """Of the agent's audio since the last mark."""
        self._frame = 0.0
        self._marks: deque[str] = deque()
        """That have not come back."""
        self._marked = 0

    def receive(self, message: WireMessage) -> Iterable[Action]:
        """Take a message."""
        try:
            return self._take(read_message(message))
        except BadMessage:
            return ()

    def _take(self, record: Record) -> Iterable[Action]:
        event = record.text("event")
        if event == "start":
            return self._start(record)
        if event == "media":
            media = record.record("media")
            inbound = media.text("track", "inbound") == "inbound"
            return (Audio(media.audio("payload")),) if inbound and self._stream else ()
        if event == "dtmf":
            return (PressKey(record.record("dtmf").text("digit") or ""),)
        if event == self._dialect.played:
            self._played((record.record("mark") if event == "mark" else record).text("name"))
        return (End(CloseReason.FINISHED),) if event == "stop" else ()

    def _start(self, record: Record) -> Iterable[Action]:
        start = record.record("start")
        self._stream = record.text(self._dialect.stream_id) or start.text(self._dialect.stream_id) or ""
        encoding = start.record(self._dialect.media_format).text("encoding", "audio/x-mulaw") or ""
        known = _ENCODINGS.get(encoding.lower())
        if known is None or not self._stream:
            wanted = f"{encoding[:50]} is not spoken here" if self._stream else "the stream has no name"
            return (End(CloseReason.BAD_REQUEST, f"{wanted}; stream G.711 at 8000 Hz"),)
        self._format = known
        try:
            return (Begin(self._request(start)),)
        except UsageError as error:
            return (End(CloseReason.BAD_REQUEST, str(error)),)

    def _request(self, start: Record) -> CallRequest:
        """Return what was asked for: in the address, or by whoever set up the call."""
        added: Mapping[str, Any] = start.record(self._dialect.parameters).values if self._dialect.parameters else {}
        wishes = {**self._query, **{name: value for name, value in added.items() if isinstance(value, str)}}
        parameters = CallParameters.read({**wishes, "format": "pcm"})
        return CallRequest(options=parameters.options, model=parameters.model, heard=self._format, said=self._format)

    def admitted(self, description: CallDescription) -> Iterable[WireMessage]:
        """Note how long a frame is."""
        self._frame = description.frame_duration
        return ()

    def tell(self, event: Event) -> Iterable[WireMessage]:  # noqa: ARG002 -- a telephone hears, and reads nothing
        """Say nothing."""
        return ()

    def audio(self, pcm: NDArray[np.float32], payload: bytes) -> Iterable[WireMessage]:  # noqa: ARG002 -- coded already
        """Play the agent's frame."""
        dialect = self._dialect
        if len(self._marks) > MARKS_HELD:
            self._marks.clear()
            yield dialect.say(dialect.clear, self._stream, {})
        media: dict[str, JsonValue] = {"payload": base64.b64encode(payload).decode()}
        if dialect.describes_audio:
            media |= {"contentType": f"audio/x-{self._format.encoding}", "sampleRate": self._format.sample_rate}
        yield dialect.say(dialect.play, self._stream, {"media": media})
        self._seconds += self._frame
        if self._seconds >= MARK_SECONDS:
            self._seconds = 0.0
            yield self._mark()

    def goodbye(self, reason: CloseReason, text: str) -> Iterable[WireMessage]:  # noqa: ARG002 -- nobody reads it
        """Say nothing: the service hangs up, or goes on with what it was told to do after the stream."""
        return ()

    def _mark(self) -> str:
        self._marked += 1
        name = f"second-{self._marked}"
        self._marks.append(name)
        named: dict[str, JsonValue] = {"mark": {"name": name}} if self._dialect.mark == "mark" else {"name": name}
        return self._dialect.say(self._dialect.mark, self._stream, named)

    def _played(self, name: str | None) -> None:
        """Note that everything up to a mark has been played."""
        if name in self._marks:
            while self._marks.popleft() != name:
                pass
