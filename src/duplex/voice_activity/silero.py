"""Silero VAD on the user's frames of a conversation."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Resampler
from duplex.errors import StateError
from duplex.frame_model import Frame
from duplex.voice_activity.silero_network import CONTEXT, RATE, WINDOW, SileroNetwork, load_published

__all__ = ["SileroVoiceActivity"]

Float32 = NDArray[np.float32]


class SileroVoiceActivity:
    """Silero VAD at its own rate of 16 kHz, 512 samples a window, fed by a streaming resampler.

    ``network`` replaces the published one.
    """

    LOUDEST = 1e4
    """Samples are clipped to this magnitude, so that their squares cannot overflow."""

    LARGEST_STATE = 1e6
    """Magnitude of the LSTM's state, of which a window adds at most 1."""

    def __init__(self, sample_rate: int, network: SileroNetwork | None = None) -> None:
        self.network: SileroNetwork = network or load_published()
        self._resampler = Resampler(sample_rate, RATE)
        self._pending = np.zeros(0, np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self.lstm_state: Float32 = np.zeros((2, self.network.width), np.float32)
        """The hidden and cell state of the LSTM, float32 ``[2, width]``."""

    @property
    def window(self) -> float:
        """The duration of a window in seconds."""
        return WINDOW / RATE

    def hear(self, frame: Frame) -> list[float]:
        """Return the probability of speech in each window that this frame completes."""
        return self.hear_batch([(self, frame)])[0]

    @staticmethod
    def hear_batch(asked: Sequence[tuple["SileroVoiceActivity", Frame]]) -> list[list[float]]:
        """Return the probabilities of several detectors that share a network, each for its own frame, in one batch.

        Probabilities may differ from those of :meth:`hear` in their last digits.
        """
        voices = [voice for voice, _ in asked]
        windows = [voice.windows(frame) for voice, frame in asked]
        counts = [len(each) for each in windows]
        lstm_states = np.stack([voice.lstm_state for voice in voices])
        found = voices[0].network.probabilities(np.concatenate(windows), counts, lstm_states) if any(counts) else []
        for voice, lstm_state in zip(voices, lstm_states, strict=True):
            voice.lstm_state = lstm_state
        ends = list(accumulate(counts))
        return [found[end - count : end] for count, end in zip(counts, ends, strict=True)]

    def state(self) -> dict[str, Float32]:
        """Return the streaming state, without the resampler's few milliseconds."""
        return {"context": self._context, "memory": self.lstm_state, "pending": self._pending}

    def restore(self, state: Mapping[str, Float32]) -> None:
        """Continue from a state that :meth:`state` returned.

        :raises StateError: if it is damaged
        """
        try:
            context, lstm_state, pending = (state[name] for name in ("context", "memory", "pending"))
        except KeyError as error:
            raise StateError(f"the voice activity's state lacks {error}; export the conversation anew") from None
        shapes_fit = (context.shape, lstm_state.shape) == (self._context.shape, self.lstm_state.shape)
        if not shapes_fit or pending.ndim != 1 or len(pending) >= WINDOW:
            raise StateError("the voice activity's state has other shapes than its own; export the conversation anew")
        limits = (context, self.LOUDEST), (pending, self.LOUDEST), (lstm_state, self.LARGEST_STATE)
        if not all((np.abs(array) <= limit).all() for array, limit in limits):  # so is what is NaN
            raise StateError("the voice activity's state has numbers out of range; export the conversation anew")
        self._context, self.lstm_state, self._pending = context, lstm_state, pending

    def windows(self, frame: Frame) -> Float32:
        """Return the windows that a frame completes, float32 ``[windows, 640]``.

        Each has the end of the window before as left context, and is padded on the right by reflection.
        """
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
