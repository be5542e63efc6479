"""Opus in Ogg (RFC 7845): sound out of bytes that arrive cut anywhere, and bytes out of sound.

Times in the pages are not used: every packet is decoded, nothing is trimmed or filled in. The clients of the original
count in other units than the standard.
"""

import math
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from duplex.audio.libopus import Decoder, Encoder
from duplex.audio.ogg import OggReader, OggWriter, Packet
from duplex.errors import AudioError

__all__ = ["OpusReader", "OpusWriter"]

Float32 = NDArray[np.float32]
GRANULES = 48_000
"""Units of a page's time in a second, whatever the sound's rate."""
PRE_SKIP = 312
"""Granules that the encoder adds in front."""
VENDOR = b"duplex"
BITRATE = 32_000
"""Bits a second."""

_HEAD = struct.Struct("<8sBBHIhB")
"""``OpusHead``, version, channels, pre-skip, the input's rate, gain, channel mapping."""
_CHANNELS = (1, 2)
_HEADERS = 2
_CAPTURE = b"OggS"
_OTHERS = {b"\x1a\x45\xdf\xa3": "WebM or Matroska", b"RIFF": "WAV", b"fLaC": "FLAC", b"ID3": "MP3", b"\0\0\0": "MP4"}
"""What other formats begin with."""
_MOST_UNKNOWN = 1 << 14
"""Bytes in which an Ogg stream must have begun."""


SHORTEST_SECONDS = 0.0025
"""Of a packet of Opus."""


class OpusReader:
    """Decodes one Ogg Opus stream at a sample rate of 8, 12, 16, 24 or 48 kHz; two channels become their mean.

    ``max_seconds`` is how many seconds of sound may come at once: 64 KiB can hold three quarters of an hour.

    :raises MissingDependencyError: if ``opuslib`` or libopus is not installed
    """

    def __init__(self, sample_rate: int, *, max_seconds: float = math.inf) -> None:
        self.damaged: int = 0
        """Packets that could not be decoded and were left out."""
        self._rate = sample_rate
        self._decoder = Decoder(sample_rate)
        self._max_seconds = max_seconds
        self._ogg = OggReader(max_seconds / SHORTEST_SECONDS)
        self._headers = 0
        self._unknown = 0
        """Bytes that came before the stream began."""

    def read_header(self, data: bytes) -> None:
        """Take bytes whose sound nobody hears: the stream's headers are read, and nothing after them is looked at.

        :raises AudioError: if they are not Opus, or of a kind that cannot be decoded
        """
        if self._headers < _HEADERS:
            self._check_beginning(data)
            for packet in self._ogg.feed(data):
                if packet.begins or self._headers == 1:
                    self._decoded(packet)

    def feed(self, data: bytes) -> Float32:
        """Take bytes of any length; return the sound that they complete, float32 ``[samples]``, perhaps none.

        :raises AudioError: if they are not Opus, of a kind that cannot be decoded, or too much at once
        """
        sound: list[Float32] = []
        samples = 0
        self._check_beginning(data)
        for packet in self._ogg.feed(data):
            sound.append(self._decoded(packet))
            samples += sound[-1].size
            if samples > self._max_seconds * self._rate:
                raise AudioError(f"more than {self._max_seconds:g} s of sound at once; send it at the pace of a clock")
        return np.concatenate(sound) if sound else np.zeros(0, np.float32)

    def _decoded(self, packet: Packet) -> Float32:
        nothing = np.zeros(0, np.float32)
        if packet.begins:
            self._begin(packet.data)
            return nothing
        if self._headers == 1:  # the comments
            self._headers = 2
            return nothing
        pcm = self._decoder.decode(packet.data)
        if pcm is None:
            self.damaged += 1
            return nothing
        return pcm

    def _check_beginning(self, data: bytes) -> None:
        """Tell what is no Ogg from its first bytes, which are skipped otherwise, as noise between two pages is."""
        if self._headers:
            return
        kind = next((name for magic, name in _OTHERS.items() if data.startswith(magic)), None)
        if kind and not self._unknown:
            raise AudioError(f"this is {kind}, not Ogg; encode the sound with Opus (audio/ogg; codecs=opus)")
        self._unknown += len(data)
        if self._unknown > _MOST_UNKNOWN and _CAPTURE not in data:
            raise AudioError("no Ogg stream begins here; encode the sound with Opus (audio/ogg; codecs=opus)")

    def _begin(self, head: bytes) -> None:
        if not head.startswith(b"OpusHead") or len(head) < _HEAD.size:
            raise AudioError("this Ogg stream is not Opus; encode the sound with Opus (audio/ogg; codecs=opus)")
        _, version, channels, _, _, _, mapping = _HEAD.unpack_from(head)
        if version >> 4 or mapping or channels not in _CHANNELS:
            raise AudioError(
                f"Opus of {channels} channels, version {version}, mapping {mapping} cannot be read; send one channel"
            )
        if self._headers:  # a second stream
            self._decoder = Decoder(self._rate)
        self._headers = 1


class OpusWriter:
    """Encodes mono sound as one Ogg Opus stream, a page for each call; ``comments`` are ``NAME=text`` each.

    :raises MissingDependencyError: if ``opuslib`` or libopus is not installed
    """

    def __init__(self, sample_rate: int, serial: int = 0, comments: Sequence[str] = ()) -> None:
        self._rate = sample_rate
        self._comments = comments
        self._encoder = Encoder(sample_rate, BITRATE)
        self._ogg = OggWriter(serial)
        self._granule = PRE_SKIP

    def header(self) -> bytes:
        """Return the two pages that begin the stream."""
        head = _HEAD.pack(b"OpusHead", 1, 1, PRE_SKIP, self._rate, 0, 0)
        comments = [_counted(comment.encode()) for comment in self._comments]
        tags = b"OpusTags" + _counted(VENDOR) + struct.pack("<I", len(comments)) + b"".join(comments)
        return self._ogg.page([head], 0) + self._ogg.page([tags], 0)

    def encode(self, pcm: Float32, *, ends: bool = False) -> bytes:
        """Encode float32 ``[samples]``, a duration that Opus has (20, 40, 60, 80 ms, ...), to one page."""
        self._granule += len(pcm) * GRANULES // self._rate
        return self._ogg.page([self._encoder.encode(pcm)], self._granule, ends=ends)


def _counted(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text
