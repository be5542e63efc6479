"""The formats in which a caller's audio travels: Opus in Ogg, plain samples, or the 8 bits of telephones."""

from typing import Literal, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.g711 import Law, compress, expand
from duplex.audio.opus import OpusReader, OpusWriter
from duplex.audio.pcm import AudioLike, as_mono_float32, to_int16
from duplex.audio.synthetic_mark import mark_comments
from duplex.errors import AudioError

__all__ = ["AudioFormat", "Encoding", "WireCodec", "create_wire_codec"]

Float32 = NDArray[np.float32]
Encoding = Literal["opus", "pcm", "float32", "mulaw", "alaw"]
MAX_SECONDS = 10.0
"""Of sound in one message."""
_LITTLE_INT16 = np.dtype("<i2")
_LITTLE_FLOAT32 = np.dtype("<f4")


@attrs.frozen
class AudioFormat:
    """How audio travels: Opus in Ogg pages, little-endian samples of 16 bit or float32, or G.711."""

    encoding: Encoding = "opus"
    sample_rate: int | None = None
    """In Hz, on the line; ``None`` is the model's own. Opus has always that."""


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

    def flush(self) -> Float32:
        """Return what is left of the caller's audio when no more comes, float32 ``[samples]``, perhaps none."""
        ...

    def encode(self, pcm: Float32) -> bytes:
        """Return a frame of sound as it travels."""
        ...


def create_wire_codec(audio_format: AudioFormat, sample_rate: int, *, synthetic: bool = False) -> WireCodec:
    """Return the codec between a line's format and a model's sample rate.

    What it encodes says that it is ``synthetic`` speech where the format has a place for that, as Opus has.

    :raises MissingDependencyError: if libopus is wanted and not there
    """
    match audio_format.encoding:
        case "opus":
            return _Opus(sample_rate, synthetic=synthetic)
        case "pcm":
            return _Samples(_Linear(), audio_format.sample_rate, sample_rate)
        case "float32":
            return _Samples(_Floats(), audio_format.sample_rate, sample_rate)
        case law:
            return _Samples(_Logarithmic(law), audio_format.sample_rate, sample_rate)


class _Opus:
    """Ogg Opus."""

    def __init__(self, sample_rate: int, *, synthetic: bool) -> None:
        self._reader = OpusReader(sample_rate, max_seconds=MAX_SECONDS)
        self._writer = OpusWriter(sample_rate, comments=mark_comments() if synthetic else ())

    @property
    def damaged(self) -> int:
        return self._reader.damaged

    def header(self) -> bytes:
        return self._writer.header()

    def read_header(self, data: bytes) -> Float32:
        self._reader.read_header(data)
        return _nothing()

    def decode(self, data: bytes) -> Float32:
        return self._reader.feed(data)

    def flush(self) -> Float32:
        return _nothing()

    def encode(self, pcm: Float32) -> bytes:
        return self._writer.encode(pcm)


class _Coding(Protocol):
    """Samples as bytes."""

    def decode(self, data: bytes) -> AudioLike: ...

    def encode(self, pcm: Float32) -> bytes: ...


class _Linear:
    """16-bit little-endian samples."""

    def decode(self, data: bytes) -> NDArray[np.int16]:
        if len(data) % _LITTLE_INT16.itemsize:
            raise AudioError(f"{len(data)} bytes are not whole samples of 16 bit; send two bytes for each")
        return np.frombuffer(data, _LITTLE_INT16).astype(np.int16)

    def encode(self, pcm: Float32) -> bytes:
        return to_int16(pcm).astype(_LITTLE_INT16).tobytes()


class _Floats:
    """Little-endian samples of float32, from -1 to 1."""

    def decode(self, data: bytes) -> Float32:
        if len(data) % _LITTLE_FLOAT32.itemsize:
            raise AudioError(f"{len(data)} bytes are not whole samples of float32; send four bytes for each")
        return np.frombuffer(data, _LITTLE_FLOAT32).astype(np.float32)

    def encode(self, pcm: Float32) -> bytes:
        return pcm.astype(_LITTLE_FLOAT32).tobytes()


class _Logarithmic:
    """G.711, a byte for each sample."""

    def __init__(self, law: Law) -> None:
        self._law: Law = law

    def decode(self, data: bytes) -> NDArray[np.int16]:
        return expand(self._law, np.frombuffer(data, np.uint8))

    def encode(self, pcm: Float32) -> bytes:
        return compress(self._law, to_int16(pcm)).tobytes()


class _Samples:
    """Samples without headers, at the line's rate."""

    damaged = 0

    def __init__(self, coding: _Coding, line_rate: int | None, sample_rate: int) -> None:
        self._coding = coding
        self._line_rate = line_rate or sample_rate
        from duplex.audio.live_resampler import LiveResampler  # noqa: PLC0415 -- PyAV takes a while

        self._heard = LiveResampler(self._line_rate, sample_rate)
        self._said = LiveResampler(sample_rate, self._line_rate)

    def header(self) -> bytes:
        return b""

    def read_header(self, data: bytes) -> Float32:  # noqa: ARG002 -- samples have none
        return _nothing()

    def decode(self, data: bytes) -> Float32:
        pcm = as_mono_float32(self._coding.decode(data))
        if pcm.size > MAX_SECONDS * self._line_rate:
            raise AudioError(
                f"a message has over {MAX_SECONDS:g} s of sound; send it in pieces, at the pace of a clock"
            )
        return self._heard.push(pcm)

    def flush(self) -> Float32:
        return self._heard.flush()

    def encode(self, pcm: Float32) -> bytes:
        return self._coding.encode(self._said.push(pcm))


def _nothing() -> Float32:
    return np.zeros(0, np.float32)
