"""What a codec is: sound to codes and back. Numpy stands at the border, whatever it computes with."""

from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.errors import UsageError

__all__ = ["Codec", "CodecSpec", "CodecStream"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@attrs.frozen(kw_only=True)
class CodecSpec:
    """What a codec takes and gives: ``codebooks`` streams of codes from 0 to ``vocabulary - 1``, one column a frame."""

    sample_rate: int
    frame_size: int
    codebooks: int
    vocabulary: int

    @property
    def frame_rate(self) -> float:
        """Frames in a second of audio."""
        return self.sample_rate / self.frame_size

    @property
    def bitrate(self) -> float:
        """Bits in a second of audio."""
        return self.codebooks * float(np.log2(self.vocabulary)) * self.frame_rate

    def check_codes(self, codes: Int64) -> None:
        """Check that codes are ``[codebooks, frames]``, and all of the vocabulary.

        :raises UsageError: if they are not
        """
        if codes.ndim != 2 or codes.shape[0] != self.codebooks or codes.dtype.kind not in "iu":  # noqa: PLR2004
            raise UsageError(
                f"codes are {codes.dtype} {list(codes.shape)}; give whole numbers of shape [{self.codebooks}, frames]"
            )
        if codes.size and not 0 <= codes.min() <= codes.max() < self.vocabulary:
            raise UsageError(f"codes run from {codes.min()} to {codes.max()}; they must be 0 to {self.vocabulary - 1}")


class CodecStream(Protocol):
    """One recording going through the codec frame by frame, in either direction or both."""

    def encode(self, pcm: Float32) -> Int64:
        """Encode float32 ``[n * frame_size]`` to int64 codes ``[codebooks, n]``, going on where the last call ended.

        :raises UsageError: if the length is not a whole number of frames
        """
        ...

    def decode(self, codes: Int64) -> Float32:
        """Decode int64 codes ``[codebooks, n]`` to float32 ``[n * frame_size]``, unclipped.

        :raises UsageError: if the shape or a code is out of range
        """
        ...


class Codec(Protocol):
    """Audio to codes and back (Mimi: section 3.3 of the paper)."""

    @property
    def spec(self) -> CodecSpec:
        """What goes in and comes out."""
        ...

    def encode(self, pcm: Float32) -> Int64:
        """Encode a whole recording, float32 ``[samples]``, to int64 codes ``[codebooks, frames]``.

        A trailing partial frame is padded with zeros. The codes are those of one call per frame.
        """
        ...

    def decode(self, codes: Int64) -> Float32:
        """Decode int64 codes ``[codebooks, frames]`` to float32 ``[frames * frame_size]``, unclipped."""
        ...

    def stream(self) -> CodecStream:
        """Start a recording that is encoded or decoded piece by piece."""
        ...
