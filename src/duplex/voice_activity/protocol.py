"""The protocol of a detector of speech, and what is made of a frame's sound.

A detector hears every frame of a conversation and gives a probability for each window that the frame completed. A model
with a voice-activity head of its own can stand in for it: :class:`~duplex.frame_model.Frame` carries its tokens too.
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
    """The user's probabilities of speech in a frame, 0 to 1, one for each window, and the agent's level in dBFS."""

    probabilities: Sequence[float]
    agent_level: float = SILENCE_DBFS


class VoiceActivity(Protocol):
    """A detector of the user's speech in one conversation.

    ``hear`` is called in another thread than the rest, never at the same time.
    """

    @property
    def window(self) -> float:
        """Seconds of audio for each probability."""
        ...

    def hear(self, frame: Frame) -> Sequence[float]:
        """Return a probability, 0 to 1, for each window that this frame completes, in order."""
        ...

    def state(self) -> Mapping[str, Float32]:
        """Return what the detector remembers, for :meth:`restore`."""
        ...

    def restore(self, state: Mapping[str, Float32]) -> None:
        """Go on where :meth:`state` was taken.

        :raises StateError: if it is damaged
        """
        ...
