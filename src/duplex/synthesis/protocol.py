"""What a frame model offers that says texts."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from duplex.synthesis.script import Entry

__all__ = ["Says"]


@runtime_checkable
class Says(Protocol):
    """A :class:`duplex.frame_model.FrameModel` of speech synthesis.

    Its steps hear nothing. ``StepResult.script`` int64 ``[capacity, 3]`` tells of each slot how many entries have been
    taken, how many words have begun, and the step at which there was nothing left to say, -1 before.
    """

    @property
    def delay_steps(self) -> int:
        """How many steps the sound comes after its text."""
        ...

    def imitate(self, slot: int, codes: NDArray[np.int64]) -> None:
        """Let a slot that has just been opened go on from a voice, its codes int64 ``[agent_streams, n]``.

        It says no text for n steps, of which the initial one is the first: the next n - 1 are for
        :meth:`~duplex.frame_model.FrameModel.prefill`, which lets the codec hear the voice, too.
        """
        ...

    def say(self, slot: int, entries: Sequence[Entry]) -> None:
        """Add to what a slot says."""
        ...
