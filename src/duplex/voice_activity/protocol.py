"""The protocol of voice activity detectors, and their result for a frame.

A detector gets every frame of a conversation and returns a probability of speech for each window that the frame
completes. A model with a voice activity head of its own can implement it too: :class:`~duplex.frame_model.Frame` has
the tokens as well.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import SILENCE_DBFS
from duplex.frame_model import Frame

__all__ = ["FrameActivity", "VoiceActivity"]

Float32 = NDArray[np.float32]


@attrs.frozen
class FrameActivity:
    """The user's speech probabilities in a frame, 0 to 1, one per window, and the agent's level in dBFS."""

    probabilities: Sequence[float]
    agent_level: float = SILENCE_DBFS


class VoiceActivity(Protocol):
    """A voice activity detector of the user in one conversation.

    ``hear`` is called in another thread than the other methods, never concurrently with them.
    """

    @property
    def window(self) -> float:
        """The duration of a window in seconds."""
        ...

    def hear(self, frame: Frame) -> Sequence[float]:
        """Return the probability of speech, 0 to 1, in each window that this frame completes, in order."""
        ...

    def state(self) -> Mapping[str, Float32]:
        """Return the streaming state, for :meth:`restore`."""
        ...

    def restore(self, state: Mapping[str, Float32]) -> None:
        """Continue from a state that :meth:`state` returned.

        :raises StateError: if it is damaged
        """
        ...
