"""Encodes a channel in which the same things are said again and again, between silence: each is encoded once.

What a codec makes of a frame depends on so much sound before it as its convolutions and its attention reach. Where all
of that is digital silence, every frame has the same codes, and what follows has the codes that it always has there, but
for about one in a hundred: several layers of attention reach further back, faintly.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from duplex.codec import Codec

__all__ = ["RepeatEncoder"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
SILENCE_SECONDS = 30.0
MARGIN = 4
"""Frames: codes settle a little before the sound is forgotten."""
LONGEST_KEPT = 250
"""Frames of something said that may be said again."""


class RepeatEncoder:
    """A codec that remembers what it has encoded."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._size = codec.spec.frame_size
        silence = codec.encode(np.zeros(round(SILENCE_SECONDS * codec.spec.frame_rate) * self._size, np.float32))
        unsettled = np.flatnonzero((silence != silence[:, -1:]).any(axis=0))
        self._reach = int(unsettled[-1]) + 1 + MARGIN if len(unsettled) else MARGIN
        """Frames of silence after which everything before it is forgotten."""
        self._beginning, self._silence = silence[:, : self._reach], silence[:, -1:]
        self._known: dict[bytes, Int64] = {}

    def __call__(self, pcm: Float32) -> Int64:
        """Encode a whole recording, as the codec does: float32 ``[samples]`` to int64 ``[codebooks, frames]``."""
        whole = np.pad(pcm, (0, -len(pcm) % self._size))
        frames = whole.reshape(-1, self._size)
        codes = np.repeat(self._silence, len(frames), axis=1)
        codes[:, : self._reach] = self._beginning[:, : len(frames)]
        for start, end in self._stretches(np.abs(frames).max(axis=1) > 0):
            codes[:, start:end] = self._encoded(frames[start:end], begins=start == 0)
        return codes

    def _stretches(self, audible: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Return the stretches with sound, from frame to frame, each with what is needed to forget it."""
        stretches: list[tuple[int, int]] = []
        for frame in np.flatnonzero(audible).tolist():
            start, end = (frame if frame >= self._reach else 0), min(frame + 1 + self._reach, len(audible))
            if stretches and frame <= stretches[-1][1]:
                start = stretches.pop()[0]
            stretches.append((start, end))
        return stretches

    def _encoded(self, frames: Float32, *, begins: bool) -> Int64:
        """Return the codes of a stretch, which begins the recording or follows silence."""
        if begins or len(frames) > LONGEST_KEPT:
            return self._after_silence(frames, 0 if begins else self._reach)
        key = hashlib.sha256(frames.tobytes()).digest()
        if key not in self._known:
            self._known[key] = self._after_silence(frames, self._reach)
        return self._known[key]

    def _after_silence(self, frames: Float32, silent: int) -> Int64:
        return self._codec.encode(np.pad(frames.ravel(), (silent * self._size, 0)))[:, silent:]
