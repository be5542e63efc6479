"""A codec without weights, whose codes are levels."""

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import as_mono_float32
from duplex.codec import CodecSpec
from duplex.errors import UsageError

__all__ = ["FakeCodec", "FakeCodecStream"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


class FakeCodec:
    """Codes are levels: code c of a frame is the mean of the magnitude in the c-th part of it.

    Frames do not depend on each other, and ``encode(decode(codes))`` gives ``codes``.
    """

    LOUDEST = 0.25
    """The mean magnitude of the last code."""

    def __init__(self, spec: CodecSpec) -> None:
        self.spec = spec
        self._starts = np.linspace(0, spec.frame_size, spec.codebooks, endpoint=False).astype(np.int64)
        self._sizes = np.diff(self._starts, append=spec.frame_size)

    def encode(self, pcm: Float32) -> Int64:
        """Encode a whole recording; a trailing partial frame is padded with zeros."""
        pcm = as_mono_float32(pcm)
        return self.codes(np.pad(pcm, (0, -len(pcm) % self.spec.frame_size)))

    def decode(self, codes: Int64) -> Float32:
        """Decode int64 codes ``[codebooks, frames]``."""
        spec = self.spec
        if codes.ndim != 2 or codes.shape[0] != spec.codebooks or codes.dtype.kind not in "iu":  # noqa: PLR2004
            raise UsageError(f"codes are {list(codes.shape)}; give whole numbers of shape [{spec.codebooks}, frames]")
        if codes.size and not 0 <= codes.min() <= codes.max() < spec.vocabulary:
            raise UsageError(f"codes run from {codes.min()} to {codes.max()}; they must be 0 to {spec.vocabulary - 1}")
        levels = (codes.T * (self.LOUDEST / (spec.vocabulary - 1))).astype(np.float32)
        return np.repeat(levels, self._sizes, axis=1).reshape(-1)

    def stream(self) -> "FakeCodecStream":
        """Start a recording that is encoded or decoded piece by piece."""
        return FakeCodecStream(self)

    def codes(self, pcm: Float32) -> Int64:
        """Return the codes ``[codebooks, n]`` of ``n`` whole frames."""
        loudness = np.abs(np.nan_to_num(pcm).astype(np.float64)).reshape(-1, self.spec.frame_size)
        means = np.add.reduceat(loudness, self._starts, axis=1) / self._sizes
        last = self.spec.vocabulary - 1
        return np.rint(np.clip(means / self.LOUDEST, 0, 1) * last).astype(np.int64).T


class FakeCodecStream:
    """One recording going through the fake codec."""

    def __init__(self, codec: FakeCodec) -> None:
        self._codec = codec

    def encode(self, pcm: Float32) -> Int64:
        """Encode a whole number of frames."""
        pcm, size = as_mono_float32(pcm), self._codec.spec.frame_size
        if len(pcm) % size:
            raise UsageError(f"{len(pcm)} samples are not a whole number of frames; give a multiple of {size}")
        return self._codec.codes(pcm)

    def decode(self, codes: Int64) -> Float32:
        """Decode int64 codes ``[codebooks, n]``."""
        return self._codec.decode(codes)
