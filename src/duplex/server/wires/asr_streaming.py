"""``/api/asr-streaming``: what the published recogniser's server speaks, for models that recognise speech.

Messages are maps of msgpack with a ``type``:

====================================  ==================================================================================
from the caller                       what is done
====================================  ==================================================================================
``Audio{pcm}``, ``OggOpus{data}``     heard: samples at 24 kHz from -1 to 1, or pages of Ogg Opus
``Marker{id}``                        comes back when the words of everything before it have been told
``Init``                              answered with ``Ready``; it begins nothing anew, so not after audio
====================================  ==================================================================================

``Ready`` says that the caller is heard. Each frame gives, in this order, ``Step{step_idx, prs, buffered_pcm}`` where
the weights have heads for pauses, ``Word{text, start_time}``, ``EndWord{stop_time}``, and markers that are due. Audio
may come as fast as the model takes it: nothing is late, and no silence stands in for what does not come.
"""

from collections import deque
from collections.abc import Iterable
from importlib import import_module
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from duplex.audio.opus import OpusReader
from duplex.audio.wire_codecs import AudioFormat
from duplex.errors import AudioError
from duplex.events import Event
from duplex.extras import require
from duplex.frame_model import Frame
from duplex.parsing import shown
from duplex.server.call_parameters import CallParameters
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import (
    Action,
    Audio,
    CallDescription,
    CallRequest,
    End,
    Opening,
    Reply,
    Wire,
    WireMessage,
)
from duplex.transcription.protocol import Word
from duplex.transcription.words import Placement, WordTimes

__all__ = ["AsrStreamingWire"]

RATE = 24000
MAX_SECONDS = 10.0
"""Of sound in one message."""
MAX_OPUS_BYTES = 1 << 16
"""Of Ogg Opus in one message."""
MAX_MARKERS = 1000
"""That may wait to come back."""
INTEGERS = range(-(2**63), 2**63)


class AsrStreamingWire(Wire):
    """A caller who wants to know what is said.

    :raises MissingDependencyError: if msgpack is not installed
    :raises UsageError: if the address asks for something that makes no sense
    """

    tells_frames = True

    def __init__(self, opening: Opening) -> None:
        require("serve", "msgpack", purpose="the wire asr")
        parameters = CallParameters.read({**opening.query, "format": "pcm"})
        self.request: CallRequest | None = CallRequest(
            options=parameters.options,
            model=parameters.model,
            heard=AudioFormat("float32", RATE),
            said=AudioFormat("pcm"),
            recognition=True,
            held_back=True,
        )
        self._opus: OpusReader | None = None
        self._ready = False
        self._received = self._stepped = 0
        """Samples of the caller, and frames of the model."""
        self._markers: deque[tuple[int, int]] = deque()
        """Those that have not come back, each with the samples before it."""
        self._placement: Placement
        self._words: WordTimes

    def receive(self, message: WireMessage) -> Iterable[Action]:
        """Take a message; text frames mean nothing, as the original has it."""
        if isinstance(message, str):
            return ()
        try:
            return self._take(_unpack(message))
        except (ValueError, AudioError) as error:
            return (End(CloseReason.BAD_REQUEST, str(error)),)

    def admitted(self, description: CallDescription) -> Iterable[WireMessage]:
        """Note where the audio lies in what the model hears."""
        assert description.words is not None  # noqa: S101 -- a recogniser was asked for
        assert description.placement is not None  # noqa: S101
        self._placement, self._words = description.placement, description.words()
        return ()

    def started(self, header: bytes) -> Iterable[WireMessage]:  # noqa: ARG002 -- nothing is said
        """Say that the caller is heard."""
        self._ready = True
        return (_pack(type="Ready"),)

    def tell(self, event: Event) -> Iterable[WireMessage]:  # noqa: ARG002 -- words are told frame by frame
        """Say nothing."""
        return ()

    def stepped(self, frame: Frame) -> Iterable[WireMessage]:
        """Tell what a frame has brought."""
        self._stepped += 1
        size, lead = frame.user_pcm.size, self._placement.lead
        if frame.heads is not None:
            waiting = max(lead + self._received - self._stepped * size, 0)
            pauses = [float(each) for each in frame.heads[:, 0]]
            yield _pack(type="Step", step_idx=self._stepped, prs=pauses, buffered_pcm=waiting)
        for found in self._words.feed(frame.text, self._stepped - 1):
            if isinstance(found, Word):
                yield _pack(type="Word", text=found.text, start_time=max(found.start - lead / RATE, 0.0))
            else:
                yield _pack(type="EndWord", stop_time=max(found.stop - lead / RATE, 0.0))
        while self._markers and (lead + self._markers[0][0]) // size + self._placement.delay <= self._stepped:
            yield _pack(type="Marker", id=self._markers.popleft()[1])

    def audio(self, pcm: NDArray[np.float32], payload: bytes) -> Iterable[WireMessage]:  # noqa: ARG002 -- there is none
        """Say nothing."""
        return ()

    def goodbye(self, reason: CloseReason, text: str) -> Iterable[WireMessage]:
        """Say what went wrong, if something did."""
        return () if reason is CloseReason.FINISHED else (_pack(type="Error", message=text),)

    def _take(self, record: dict[str, Any]) -> Iterable[Action]:
        match record.get("type"):
            case "Audio":
                return self._hear(_samples(record.get("pcm")))
            case "OggOpus":
                return self._hear(self._decoded(record.get("data")))
            case "Marker":
                return self._mark(record.get("id"))
            case "Init" if not self._received:
                return (Reply(_pack(type="Ready")),) if self._ready else ()
            case "Init":
                raise ValueError("a recognition that has begun cannot begin anew; open another connection")
            case other:
                raise ValueError(f"there are no messages of type {shown(other)}; send Audio, OggOpus or Marker")

    def _hear(self, pcm: NDArray[np.float32]) -> Iterable[Action]:
        if not pcm.size:
            return ()
        self._received += pcm.size
        return (Audio(pcm.tobytes()),)

    def _decoded(self, data: Any) -> NDArray[np.float32]:
        if self._opus is None:
            self._opus = OpusReader(RATE, max_seconds=MAX_SECONDS)
        try:
            pages = bytes(cast("bytes | list[int]", data)) if isinstance(data, bytes | list) else None
        except TypeError:
            pages = None
        if pages is None or len(pages) > MAX_OPUS_BYTES:
            raise ValueError(f"data is not Ogg Opus of at most {MAX_OPUS_BYTES} bytes; send it in pieces")
        return self._opus.feed(pages)

    def _mark(self, number: Any) -> Iterable[Action]:
        if type(number) is not int or number not in INTEGERS:
            raise ValueError("a marker's id is a whole number of 64 bit")
        if len(self._markers) >= MAX_MARKERS:
            raise ValueError(f"{MAX_MARKERS} markers have not come back; send audio after them")
        self._markers.append((self._received, number))
        return ()


def _unpack(message: bytes) -> dict[str, Any]:
    """Return the map of a message, an empty one if it is another value.

    :raises ValueError: if it is no msgpack
    """
    msgpack: Any = import_module("msgpack")  # only callers of this wire need it
    try:
        record: Any = msgpack.unpackb(message, max_array_len=round(MAX_SECONDS * RATE), max_map_len=16)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"a message is no msgpack: {error}") from None
    return cast("dict[str, Any]", record) if isinstance(record, dict) else {}


def _pack(**record: object) -> bytes:
    msgpack: Any = import_module("msgpack")
    return msgpack.packb(record)


def _samples(given: Any) -> NDArray[np.float32]:
    """Return samples float32 ``[n]``; NaN and infinity are told where they are heard.

    :raises ValueError: if they are no list of numbers
    """
    if not isinstance(given, list) or not {type(each) for each in cast("list[object]", given)} <= {int, float}:
        raise ValueError("pcm is no list of numbers; send samples at 24 kHz, from -1 to 1")
    with np.errstate(over="ignore"):
        return np.array(given, np.float32)
