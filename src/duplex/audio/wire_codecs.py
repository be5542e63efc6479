"""The formats in which a caller's audio travels: Opus in Ogg, or plain 16-bit samples."""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from duplex.audio.opus import OpusReader, OpusWriter
from duplex.audio.pcm import as_mono_float32, to_int16
from duplex.errors import AudioError

__all__ = ["AudioFormat", "WireCodec", "create_wire_codec"]

Float32 = NDArray[np.float32]
AudioFormat = Literal["opus", "pcm"]
MAX_SECONDS = 10.0
"""Of sound in one message."""
_LITTLE_INT16 = np.dtype("<i2")


class WireCodec(Protocol):
    """Encodes and decodes one caller's audio. ``decode`` and ``encode`` may be called in two threads at a time."""

    @property
    def damaged(self) -> int:
        """Packets that could not be decoded."""
        ...

    def header(self) -> bytes:
        """Return what begins the agent's audio, perhaps nothing."""
        ...

    def read_header(self, data: bytes) -> Float32:
        """Take bytes that nobody hears, for the headers in them; return no sound, float32 ``[0]``.

        :raises AudioError: if they are not in this format
        """
        ...

    def decode(self, data: bytes) -> Float32:
        """Return the sound that bytes complete, float32 ``[samples]``, perhaps none.

        :raises AudioError: if they are not in this format, or too much at once
        """
        ...

    def encode(self, pcm: Float32) -> bytes:
        """Return a frame of sound as it travels."""
        ...


def create_wire_codec(audio_format: AudioFormat, sample_rate: int) -> WireCodec:
    """Return the codec of one caller's audio at a sample rate.

    :raises MissingDependencyError: if libopus is wanted and not there
    """
    return _Pcm() if audio_format == "pcm" else _Opus(sample_rate)


class _Opus:
    """Ogg Opus."""

    def __init__(self, sample_rate: int) -> None:
        self._reader = OpusReader(sample_rate, max_seconds=MAX_SECONDS)
        self._writer = OpusWriter(sample_rate)

    @property
    def damaged(self) -> int:
        return self._reader.damaged

    def header(self) -> bytes:
        return self._writer.header()

    def read_header(self, data: bytes) -> Float32:
        self._reader.read_header(data)
        return np.zeros(0, np.float32)

    def decode(self, data: bytes) -> Float32:
        return self._reader.feed(data)

    def encode(self, pcm: Float32) -> bytes:
        return self._writer.encode(pcm)


class _Pcm:
    """16-bit little-endian samples at the model's rate."""

    damaged = 0

    def header(self) -> bytes:
        return b""

    def read_header(self, data: bytes) -> Float32:  # noqa: ARG002 -- samples have none
        return np.zeros(0, np.float32)

    def decode(self, data: bytes) -> Float32:
        if len(data) % _LITTLE_INT16.itemsize:
            raise AudioError(f"{len(data)} bytes are not whole samples of 16 bit; send two bytes for each")
        return as_mono_float32(np.frombuffer(data, _LITTLE_INT16).astype(np.int16))

    def encode(self, pcm: Float32) -> bytes:
        return to_int16(pcm).astype(_LITTLE_INT16).tobytes()
