"""Detection of the user's speech by Silero VAD, on the frames of a conversation."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Resampler
from duplex.errors import StateError
from duplex.frame_model import Frame
from duplex.voice_activity.silero_network import CONTEXT, RATE, WINDOW, SileroNetwork, published

__all__ = ["SileroVoiceActivity"]

Float32 = NDArray[np.float32]


class SileroVoiceActivity:
    """Silero VAD at its own rate of 16 kHz, 512 samples a window, fed by a streaming resampler.

    ``network`` stands in for the published one.
    """

    LOUDEST = 1e4
    """Beyond which nothing is louder to it: the square of more could overflow."""

    def __init__(self, sample_rate: int, network: SileroNetwork | None = None) -> None:
        self.network: SileroNetwork = network or published()
        self._resampler = Resampler(sample_rate, RATE)
        self._pending = np.zeros(0, np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self.memory: Float32 = np.zeros((2, self.network.width), np.float32)
        """What the network remembers, its hidden and cell state."""

    @property
    def window(self) -> float:
        """Seconds of audio for each probability."""
        return WINDOW / RATE

    def hear(self, frame: Frame) -> list[float]:
        """Return a probability for each window that this frame completes."""
        return self.hear_together([(self, frame)])[0]

    @staticmethod
    def hear_together(asked: Sequence[tuple["SileroVoiceActivity", Frame]]) -> list[list[float]]:
        """Return what each detector, all of one network, makes of a frame of its own; in one pass, which is cheaper.

        Probabilities may differ from those of a detector by itself in their last digits.
        """
        voices = [voice for voice, _ in asked]
        windows = [voice.windows(frame) for voice, frame in asked]
        counts = [len(each) for each in windows]
        memories = np.stack([voice.memory for voice in voices])
        found = voices[0].network.probabilities(np.concatenate(windows), counts, memories) if any(counts) else []
        for voice, memory in zip(voices, memories, strict=True):
            voice.memory = memory
        ends = list(accumulate(counts))
        return [found[end - count : end] for count, end in zip(counts, ends, strict=True)]

    def state(self) -> dict[str, Float32]:
        """Return the detector's memory; the resampler's few milliseconds of past begin anew."""
        return {"context": self._context, "memory": self.memory, "pending": self._pending}

    def restore(self, state: Mapping[str, Float32]) -> None:
        """Go on where :meth:`state` was taken.

        :raises StateError: if it is damaged
        """
        try:
            context, memory, pending = (state[name] for name in ("context", "memory", "pending"))
        except KeyError as error:
            raise StateError(f"the voice activity's state lacks {error}; export the conversation anew") from None
        shapes_fit = (context.shape, memory.shape) == (self._context.shape, self.memory.shape)
        if not shapes_fit or pending.ndim != 1 or len(pending) >= WINDOW:
            raise StateError("the voice activity's state has other shapes than its own; export the conversation anew")
        self._context, self.memory, self._pending = context, memory, pending

    def windows(self, frame: Frame) -> Float32:
        """Return what a frame completes, ``[windows, 640]``: each with the end of the one before it, and mirrored."""
        heard = np.clip(self._resampler.push(frame.user_pcm), -self.LOUDEST, self.LOUDEST)
        samples = np.concatenate([self._pending, heard])
        count, edge = len(samples) // WINDOW, CONTEXT
        whole, self._pending = samples[: count * WINDOW], samples[count * WINDOW :]
        windows = np.empty((count, edge + WINDOW + edge), np.float32)
        if count:
            own = windows[:, edge:-edge]
            own[:] = whole.reshape(count, WINDOW)
            windows[0, :edge], windows[1:, :edge] = self._context, own[:-1, -edge:]
            windows[:, -edge:] = own[:, -2 : -2 - edge : -1]
            self._context = whole[-edge:]
        return windows
