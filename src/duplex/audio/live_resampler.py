"""Converting the sample rate of a conversation: what goes in comes out at once, as far as a short filter allows.

:class:`~duplex.audio.pcm.Resampler` computes in blocks, which are cheaper and sharper, and hold back up to 75 ms of a
stream at 8 kHz, now more and now less. Whoever waits for an answer hears that. This one is FFmpeg's: it holds back 2 ms
at 8 kHz, always the same, is flat to 0.88 of the lower rate's band, and from 1.2 of it on 100 dB down.
"""

from collections.abc import Iterable
from typing import Any, cast

import av
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import check_rate

__all__ = ["LiveResampler"]

Float32 = NDArray[np.float32]


class LiveResampler:
    """Converts one mono stream's sample rate, piece by piece.

    :raises AudioError: if a rate is below 1000 or above 768000
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self.source_rate: int = check_rate(source_rate)
        self.target_rate: int = check_rate(target_rate)
        self._stream = self._create()

    def push(self, pcm: Float32) -> Float32:
        """Take float32 ``[samples]`` and return what is ready, float32 of any length, 0 included."""
        if self.source_rate == self.target_rate or not pcm.size:
            return pcm
        samples: Any = np.ascontiguousarray(pcm, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.sample_rate = self.source_rate
        return _joined(self._stream.resample(frame))

    def flush(self) -> Float32:
        """Return the end of the stream, float32 of any length; the next :meth:`push` begins another stream."""
        if self.source_rate == self.target_rate:
            return _joined(())
        rest, self._stream = _joined(self._stream.resample(None)), self._create()
        return rest

    def _create(self) -> av.AudioResampler:
        return av.AudioResampler(format="flt", layout="mono", rate=self.target_rate)


def _joined(frames: Iterable[av.AudioFrame]) -> Float32:
    pieces = [cast("Float32", frame.to_ndarray()).reshape(-1) for frame in frames]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
