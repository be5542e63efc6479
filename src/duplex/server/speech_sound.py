"""How speech travels in an answer: as samples, wav or Opus, bare or in server-sent events. No sockets."""

import base64
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from duplex.audio.opus import OpusWriter
from duplex.audio.pcm import to_int16
from duplex.audio.wav import endless_header
from duplex.events import AgentAudio, AgentText, Event, JsonValue, SessionEnded
from duplex.server.wires.json_messages import dump

__all__ = ["SOUNDS", "Bare", "InEvents", "Sound"]

EVENT_STREAM = "text/event-stream"
Float32 = NDArray[np.float32]


class Sound(Protocol):
    """Makes bytes of frames."""

    def begin(self) -> bytes:
        """Return what comes first."""
        ...

    def frame(self, pcm: Float32) -> bytes:
        """Return what a frame, float32 ``[samples]``, adds."""
        ...

    def end(self) -> bytes:
        """Return what comes last."""
        ...


class _Pcm:
    """Samples of 16 bits, little-endian, one channel."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def frame(self, pcm: Float32) -> bytes:
        """Return its samples, clipped."""
        return to_int16(pcm).astype("<i2").tobytes()

    def end(self) -> bytes:
        """Return nothing."""
        return b""


class _Wav(_Pcm):
    """The same behind a header that knows no end, and says that this is synthetic speech."""

    def begin(self) -> bytes:
        """Return the header."""
        return endless_header(self._rate)


class _Opus:
    """Ogg Opus, a page a frame; one frame is held back, as the last page says that it is the last."""

    def __init__(self, sample_rate: int) -> None:
        self._writer = OpusWriter(sample_rate)
        self._held: Float32 | None = None

    def begin(self) -> bytes:
        """Return the stream's two headers."""
        return self._writer.header()

    def frame(self, pcm: Float32) -> bytes:
        """Return the page of the frame before."""
        before, self._held = self._held, pcm
        return b"" if before is None else self._writer.encode(before)

    def end(self) -> bytes:
        """Return the last page."""
        return b"" if self._held is None else self._writer.encode(self._held, ends=True)


SOUNDS: Mapping[str, tuple[type[_Pcm] | type[_Wav] | type[_Opus], str]] = {
    "wav": (_Wav, "audio/wav"),
    "pcm": (_Pcm, "audio/pcm"),
    "opus": (_Opus, "audio/ogg"),
}
"""By OpenAI's names, each with its media type."""


class Bare:
    """An answer that is the sound itself."""

    def __init__(self, sound: str, sample_rate: int) -> None:
        made, kind = SOUNDS[sound]
        self.media_type: str = kind
        self._sound: Sound = made(sample_rate)
        self._begun = False

    def told(self, event: Event) -> bytes:
        """Return what becomes of an event, often nothing."""
        match event:
            case AgentAudio(pcm=pcm):
                return self._first() + self._sound.frame(pcm)
            case SessionEnded():
                return self._first() + self._sound.end()
            case _:
                return b""

    def _first(self) -> bytes:
        """Return what comes first, the first time."""
        begun, self._begun = self._begun, True
        return b"" if begun else self._sound.begin()

    def failed(self, text: str) -> bytes:  # noqa: ARG002 -- there are no words for it
        """Return nothing: the answer breaks off."""
        return b""


class InEvents:
    """An answer of server-sent events: OpenAI's, and one of ours with each word and when it begins."""

    media_type: str = EVENT_STREAM

    def __init__(self, sound: str, sample_rate: int, tokens: int) -> None:
        """``tokens`` are those of the text."""
        self._bare = Bare(sound, sample_rate)
        self._tokens = tokens

    def told(self, event: Event) -> bytes:
        """Return what becomes of an event, often nothing."""
        sound = self._bare.told(event)
        said = b"" if not sound else _event({"type": "speech.audio.delta", "audio": base64.b64encode(sound).decode()})
        match event:
            case AgentText(text=text, at=at):
                return said + _event({"type": "speech.word", "text": text, "start": round(at, 3)})
            case SessionEnded(usage=used):
                usage: dict[str, JsonValue] = {
                    "input_tokens": self._tokens,
                    "output_tokens": used.frames,
                    "total_tokens": self._tokens + used.frames,
                }
                return said + _event({"type": "speech.audio.done", "usage": usage})
            case _:
                return said

    def failed(self, text: str) -> bytes:
        """Return what says that no more comes."""
        return _event({"type": "error", "error": {"type": "server_error", "code": None, "message": text}})


def _event(record: Mapping[str, JsonValue]) -> bytes:
    return f"data: {dump(record)}\n\n".encode()
