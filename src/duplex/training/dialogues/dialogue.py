"""A dialogue to train on: two audio channels of the same length, and word-level transcripts with times."""

import math

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.errors import CorpusError

__all__ = ["Dialogue", "Word"]

Float32 = NDArray[np.float32]


@attrs.frozen
class Word:
    """A word with its start and end in seconds."""

    text: str
    start: float
    end: float


@attrs.frozen(kw_only=True, eq=False)
class Dialogue:
    """The user's microphone signal and the agent's speech, float32 ``[samples]`` both, with their words.

    :raises CorpusError: if the channels differ in length, or a word is outside of them
    """

    name: str
    sample_rate: int
    user: Float32
    agent: Float32
    agent_words: tuple[Word, ...]
    user_words: tuple[Word, ...] | None = ()
    """``None`` without a transcript of the user."""

    def __attrs_post_init__(self) -> None:
        if len(self.user) != len(self.agent):
            raise CorpusError(
                f"{self.name}: the user's channel has {len(self.user)} samples and the agent's {len(self.agent)}; "
                "export both from the same start to the same end"
            )
        for word in (*self.agent_words, *(self.user_words or ())):
            if not 0 <= word.start <= word.end < math.inf or word.start >= self.seconds:
                raise CorpusError(
                    f"{self.name}: the word '{word.text}' is said from {word.start} to {word.end} s, and the dialogue "
                    f"has {self.seconds:.2f} s; correct its times, or remove it"
                )

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.user) / self.sample_rate
