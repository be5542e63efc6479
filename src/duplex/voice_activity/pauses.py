"""Voice activity by a recognition model's own heads, which know a pause for thought from the end of a turn.

The published heads give ``[head, class]`` probabilities at each step; the pause score is class 0 of head 2. The first
``WARM_UP`` steps are not meant: until then nobody speaks.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from duplex.errors import StateError
from duplex.frame_model import Frame

__all__ = ["PAUSE_HEAD", "PauseVoiceActivity"]

Float32 = NDArray[np.float32]
PAUSE_HEAD, PAUSE_CLASS = 2, 0
WARM_UP = 12
WINDOWS = 10
"""Windows a frame, all with the same probability: one frame decides, as the rule of turns wants ten for an end."""


class PauseVoiceActivity:
    """A detector that takes the frame for speech as far as the model's heads do not call it a pause."""

    def __init__(self, frame_duration: float) -> None:
        self.window: float = frame_duration / WINDOWS
        self._frames = 0

    def hear(self, frame: Frame) -> list[float]:
        """Return the probability of speech, in each tenth of the frame."""
        self._frames += 1
        if frame.heads is None or self._frames <= WARM_UP:
            return [0.0] * WINDOWS
        return [1.0 - float(frame.heads[PAUSE_HEAD, PAUSE_CLASS])] * WINDOWS

    def state(self) -> Mapping[str, Float32]:
        """Return how many frames have been heard, as far as that matters."""
        return {"frames": np.array([min(self._frames, WARM_UP)], np.float32)}

    def restore(self, state: Mapping[str, Float32]) -> None:
        """Go on where :meth:`state` was taken.

        :raises StateError: if it is damaged
        """
        frames = state.get("frames", np.zeros(0, np.float32))
        if frames.shape != (1,) or not 0 <= frames[0] <= WARM_UP:
            raise StateError("the voice activity's state is damaged; export the conversation anew")
        self._frames = int(frames[0])
