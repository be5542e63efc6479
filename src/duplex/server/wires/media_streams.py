"""``/twilio``, ``/telnyx``, ``/plivo``: telephone calls, as these services stream them. One wire, a dialect each.

1. The service says ``start``, with the stream's name and format; then comes audio, in pieces of 20 ms, until ``stop``.
2. The agent's audio goes out as it is made, after a little silence: frames come 80 ms apart, give or take, and the
   service plays what it has. It goes in whole pieces of 20 ms, as a service plays them: one that is shorter takes as
   long to play. What is left waits for the next frame, and is filled up with silence where no more follows at once.
3. Marks come back when they have been played, which tells how much the service holds back. After a stall that is
   more than a caller should wait for, and it stays: so silent frames are left out then. If nothing else helps, the
   service is told to throw away what it has.
4. Keys that the caller presses are events (``KeyPressed``).
5. What cannot be understood is ignored: a telephone has nobody to tell.

Facts: Twilio's Media Streams (bidirectional), Telnyx's media streaming, Plivo's audio streams.
"""

import base64
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import level_dbfs
from duplex.audio.wire_codecs import AudioFormat
from duplex.errors import UsageError
from duplex.events import Event, JsonValue
from duplex.server.call_parameters import CallParameters
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import (
    Action,
    Audio,
    Begin,
    CallRequest,
    End,
    Opening,
    PressKey,
    Wire,
    WireMessage,
)
from duplex.server.wires.json_messages import BadMessage, Record, dump, read_message

__all__ = ["DIALECTS", "Dialect", "MediaStreamWire"]

LEAD_SECONDS = 0.06
"""Of silence before the agent's first frame: what a frame may come late without a gap."""
PIECE_SECONDS = 0.02
"""Of what a service plays at once."""
MARK_SECONDS = 0.24
"""Of the agent's audio between two marks."""
LATE_SECONDS = 0.6
"""That may not have come back: a mark's distance, the line both ways, and what is held back for its unevenness. With
more, silent frames are left out."""
CLEAR_SECONDS = 3.0
"""That may not have come back at all; with more, the service is told to throw away what it has."""
SILENCE_DBFS = -50.0
"""Level below which a frame can be left out: a model's silence is not quite zero."""
_SILENCE: Mapping[str, bytes] = {"mulaw": b"\xff", "alaw": b"\xd5"}
"""A sample of silence."""
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
    """The name of what whoever set up the call has added, in ``start``: by names, or a list of names and values."""
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
    "telnyx": Dialect(
        stream_id="stream_id", media_format="media_format", parameters="custom_parameters", names_stream=False
    ),
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
        self._rest = b""
        """The agent's audio that is no whole piece yet."""
        self._sent = 0.0
        """Seconds of it that have been sent, the silence before it included."""
        self._played = 0.0
        """Of them, those up to the last mark that has come back."""
        self._marks: deque[tuple[str, float]] = deque()
        """That have not come back, each with the audio before it."""
        self._mark_due = MARK_SECONDS
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
            self._come_back((record.record("mark") if event == "mark" else record).text("name"))
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
        added = _parameters(start.values.get(self._dialect.parameters or ""))
        wishes = {**self._query, **{name: value for name, value in added.items() if isinstance(value, str)}}
        parameters = CallParameters.read({**wishes, "format": "pcm"})
        return CallRequest(options=parameters.options, model=parameters.model, heard=self._format, said=self._format)

    def tell(self, event: Event) -> Iterable[WireMessage]:  # noqa: ARG002 -- a telephone hears, and reads nothing
        """Say nothing."""
        return ()

    def audio(self, pcm: NDArray[np.float32], payload: bytes) -> Iterable[WireMessage]:
        """Play the agent's frame."""
        held = self._sent - self._played
        if held > LATE_SECONDS and level_dbfs(pcm) < SILENCE_DBFS:
            yield from self._fill_up()
            return
        if held > CLEAR_SECONDS:
            self._marks.clear()
            self._played, self._rest = self._sent, b""
            yield self._dialect.say(self._dialect.clear, self._stream, {})
        if not self._sent:
            self._rest = self._silence * round(LEAD_SECONDS * self._rate)
        self._rest += payload
        yield from self._play()
        if self._sent >= self._mark_due:
            self._mark_due = self._sent + MARK_SECONDS
            yield self._mark()

    def goodbye(self, reason: CloseReason, text: str) -> Iterable[WireMessage]:  # noqa: ARG002 -- nobody reads it
        """Say nothing: the service hangs up, or goes on with what it was told to do after the stream."""
        return self._fill_up() if self._stream else ()

    @property
    def _rate(self) -> int:
        return self._format.sample_rate or 0

    @property
    def _silence(self) -> bytes:
        return _SILENCE[self._format.encoding]

    def _fill_up(self) -> Iterator[str]:
        """Play what is left, with silence after it: the next frame does not follow at once."""
        if self._rest:
            self._rest = self._rest.ljust(round(PIECE_SECONDS * self._rate), self._silence)
            yield from self._play()

    def _play(self) -> Iterator[str]:
        """Send the whole pieces of what there is."""
        size = round(PIECE_SECONDS * self._rate)
        whole = len(self._rest) // size * size
        payload, self._rest = self._rest[:whole], self._rest[whole:]
        if not payload:
            return
        self._sent += len(payload) / self._rate
        dialect = self._dialect
        media: dict[str, JsonValue] = {"payload": base64.b64encode(payload).decode()}
        if dialect.describes_audio:
            media |= {"contentType": f"audio/x-{self._format.encoding}", "sampleRate": self._rate}
        yield dialect.say(dialect.play, self._stream, {"media": media})

    def _mark(self) -> str:
        self._marked += 1
        name = f"mark-{self._marked}"
        self._marks.append((name, self._sent))
        named: dict[str, JsonValue] = {"mark": {"name": name}} if self._dialect.mark == "mark" else {"name": name}
        return self._dialect.say(self._dialect.mark, self._stream, named)

    def _come_back(self, name: str | None) -> None:
        """Note that everything up to a mark has been played, or thrown away."""
        if any(name == each for each, _ in self._marks):
            while True:
                returned, self._played = self._marks.popleft()
                if returned == name:
                    return


def _parameters(given: Any) -> Mapping[str, Any]:
    """Return parameters by their names; what are none is ignored."""
    if isinstance(given, list):
        pairs = [cast("dict[str, Any]", each) for each in cast("list[Any]", given) if isinstance(each, dict)]
        return {str(each.get("name")): each.get("value") for each in pairs}
    return cast("dict[str, Any]", given) if isinstance(given, dict) else {}
