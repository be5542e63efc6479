"""The two calls of libopus, on memory that is made once for a stream.

They run without the interpreter's lock. ``opuslib`` declares them; its own methods make a Python number of every
sample, with the lock held, and a server has thousands of packets a second.
"""

import ctypes
import warnings
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import to_int16
from duplex.errors import AudioError, MissingDependencyError
from duplex.extras import require

__all__ = ["Decoder", "Encoder"]

Float32 = NDArray[np.float32]
LONGEST = 0.12
"""Seconds of sound in a packet (RFC 6716, section 2.1.4)."""
MAX_PACKET_BYTES = 1500
"""Bytes of a packet that is made; a frame of speech has a fifth of that."""
COMPLEXITY = 5
"""Of 10: takes 0.7 of the time that 9, the library's own, does. PESQ of the examples at 32 kbit/s: 4.16 and 4.25; with
9, 4.24 and 4.26; with 4, 3.70 and 3.82."""


class Decoder:
    """Decodes one stream to mono at a sample rate of 8, 12, 16, 24 or 48 kHz.

    :raises MissingDependencyError: if ``opuslib`` or libopus is not installed
    """

    def __init__(self, sample_rate: int) -> None:
        self._opus = _opuslib()
        self._made = self._opus.Decoder(sample_rate, 1)
        self._pcm = np.zeros(round(LONGEST * sample_rate), np.float32)
        self._pointer = self._pcm.ctypes.data_as(self._opus.api.c_float_pointer)

    def decode(self, packet: bytes) -> Float32 | None:
        """Return a packet's sound, float32 ``[samples]``; ``None`` if it is damaged."""
        if not packet:  # sound would be made up for it
            return None
        state, size = self._made.decoder_state, self._pcm.size
        samples = self._opus.api.decoder.libopus_decode_float(state, packet, len(packet), self._pointer, size, 0)
        return self._pcm[:samples].copy() if samples > 0 else None


class Encoder:
    """Encodes mono sound at a sample rate to one stream of so many bits a second.

    Without speech-only coding, which takes four times as long and holds sound back for 4 ms more.

    :raises MissingDependencyError: if ``opuslib`` or libopus is not installed
    """

    def __init__(self, sample_rate: int, bitrate: int) -> None:
        self._opus = _opuslib()
        self._made = self._opus.Encoder(sample_rate, 1, self._opus.APPLICATION_RESTRICTED_LOWDELAY)
        self._made.bitrate = bitrate
        self._made.complexity = COMPLEXITY
        self._packet = ctypes.create_string_buffer(MAX_PACKET_BYTES)

    def encode(self, pcm: Float32) -> bytes:
        """Return the packet of float32 ``[samples]``, of a duration that Opus has (20, 40, 60 ms, ...).

        :raises AudioError: if it is of another
        """
        samples = to_int16(pcm)
        pointer = samples.ctypes.data_as(self._opus.api.c_int16_pointer)
        size = self._opus.api.encoder.libopus_encode(
            self._made.encoder_state, pointer, samples.size, self._packet, MAX_PACKET_BYTES
        )
        if size <= 0:
            raise AudioError(f"{samples.size} samples are no frame of Opus; give 20, 40, 60, 80, 100 or 120 ms")
        return self._packet.raw[:size]


@cache
def _opuslib() -> Any:
    require("client", "opuslib", purpose="Opus")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of a comparison in it, the first time it is compiled
            return import_module("opuslib")
    except Exception:  # noqa: BLE001 -- it raises a bare one
        raise MissingDependencyError(
            "libopus is not installed; install it (Debian: apt-get install libopus0)"
        ) from None
