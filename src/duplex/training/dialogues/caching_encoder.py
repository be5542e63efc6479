"""An encoder that caches the codes of utterances which repeat between stretches of silence.

The codes of a frame depend on as much audio before it as the codec's receptive field covers. After that much digital
silence, an utterance always has the same codes, except for about one in a hundred: several layers of attention reach
further back, faintly.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from duplex.codec import Codec

__all__ = ["CachingEncoder"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
SILENCE_SECONDS = 30.0
MARGIN = 4
"""Frames: codes become constant a little before the receptive field has passed."""
LONGEST_KEPT = 250
"""Frames of the longest utterance that is cached."""


class CachingEncoder:
    """Encodes with a codec, and caches the codes of utterances."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._size = codec.spec.frame_size
        silence = codec.encode(np.zeros(round(SILENCE_SECONDS * codec.spec.frame_rate) * self._size, np.float32))
        unsettled = np.flatnonzero((silence != silence[:, -1:]).any(axis=0))
        self._reach = int(unsettled[-1]) + 1 + MARGIN if len(unsettled) else MARGIN
        """The receptive field: frames of silence after which earlier audio has no effect."""
        self._beginning, self._silence = silence[:, : self._reach], silence[:, -1:]
        self._known: dict[bytes, Int64] = {}

    def __call__(self, pcm: Float32) -> Int64:
        """Encode a whole recording, as the codec does: float32 ``[samples]`` to int64 ``[codebooks, frames]``."""
        whole = np.pad(pcm, (0, -len(pcm) % self._size))
        frames = whole.reshape(-1, self._size)
        codes = np.repeat(self._silence, len(frames), axis=1)
        codes[:, : self._reach] = self._beginning[:, : len(frames)]
        for start, end in self._stretches(np.abs(frames).max(axis=1) > 0):
            codes[:, start:end] = self._encode(frames[start:end], begins=start == 0)
        return codes

    def _stretches(self, audible: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Return the stretches with audio, as first and last frame, each followed by a receptive field of silence."""
        stretches: list[tuple[int, int]] = []
        for frame in np.flatnonzero(audible).tolist():
            start, end = (frame if frame >= self._reach else 0), min(frame + 1 + self._reach, len(audible))
            if stretches and frame <= stretches[-1][1]:
                start = stretches.pop()[0]
            stretches.append((start, end))
        return stretches

    def _encode(self, frames: Float32, *, begins: bool) -> Int64:
        """Return the codes of a stretch that begins the recording or follows silence."""
        if begins or len(frames) > LONGEST_KEPT:
            return self._encode_after_silence(frames, 0 if begins else self._reach)
        key = hashlib.sha256(frames.tobytes()).digest()
        if key not in self._known:
            self._known[key] = self._encode_after_silence(frames, self._reach)
        return self._known[key]

    def _encode_after_silence(self, frames: Float32, silent: int) -> Int64:
        return self._codec.encode(np.pad(frames.ravel(), (silent * self._size, 0)))[:, silent:]
