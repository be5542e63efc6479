"""Words with times as a model's text stream: one token a frame, aligned with the audio (section 3.4.4 of the paper)."""

from collections.abc import Sequence
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.tokenizer import Tokenizer

__all__ = ["SpecialTokens", "TimedWord", "align_words"]

Int64 = NDArray[np.int64]


@attrs.frozen
class SpecialTokens:
    """The text tokens that represent no word."""

    padding: int = 3
    end_of_padding: int = 0


class TimedWord(Protocol):
    """A word, and when it begins in seconds."""

    @property
    def text(self) -> str:
        """The word, without spaces around it."""
        ...

    @property
    def start(self) -> float:
        """Seconds."""
        ...


def align_words(
    words: Sequence[TimedWord], frames: int, frame: float, tokenizer: Tokenizer, marks: SpecialTokens
) -> Int64:
    """Return words as a stream of tokens aligned by time, int64 ``[frames]``, ``frame`` seconds each.

    A word whose first frame is still occupied by the one before begins in the next free frame.
    """
    stream = np.full(frames, marks.padding, np.int64)
    free = 0
    for word in sorted(words, key=lambda word: word.start):
        pieces = tokenizer.encode(word.text)
        first = max(free, int(word.start / frame))
        if first > free and pieces and first < frames:
            stream[first - 1] = marks.end_of_padding
        pieces = pieces[: max(0, frames - first)]
        stream[first : first + len(pieces)] = pieces
        free = first + len(pieces)
    return stream
