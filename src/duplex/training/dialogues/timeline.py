"""The timeline of a simulated dialogue: two channels to which utterances are added.

Times are in seconds from the dialogue's beginning.
"""

import math

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import Voice
from duplex.training.dialogues.dialogue import Word
from duplex.training.dialogues.speech import speak_as_agent, speak_words

__all__ = ["Channel", "DialogueTimeline"]

Float32 = NDArray[np.float32]
FADE = 0.03
FRAME = 0.08
"""The agent acts frame by frame: its utterances begin and stop at the start of a frame."""


class Channel:
    """The channel of one speaker."""

    def __init__(self) -> None:
        self.words: list[Word] = []
        self._pieces: list[tuple[int, Float32]] = []

    @property
    def end(self) -> float:
        """The end of its last sound."""
        return max((start + len(pcm) for start, pcm in self._pieces), default=0) / SAMPLE_RATE

    def add(self, at: float, pcm: Float32, words: list[Word]) -> None:
        """Add audio at a time, and its words, whose times count from there."""
        self._pieces.append((round(at * SAMPLE_RATE), pcm))
        self.words += [attrs.evolve(word, start=word.start + at, end=word.end + at) for word in words]

    def cut(self, at: float) -> None:
        """Stop at a time: audio in progress fades out, later audio and words are removed."""
        last, length = round(at * SAMPLE_RATE), round(FADE * SAMPLE_RATE)
        self._pieces = [(start, _fade_out(pcm, last - start, length)) for start, pcm in self._pieces if start < last]
        self.words = [attrs.evolve(word, end=min(word.end, at)) for word in self.words if word.start < at]

    def sound(self, seconds: float) -> Float32:
        """Return the whole channel, float32 ``[samples]``."""
        whole = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
        for start, pcm in self._pieces:
            piece = pcm[: max(0, len(whole) - start)]
            whole[start : start + len(piece)] += piece
        return whole


class DialogueTimeline:
    """The channels of a user and the agent, and the current time."""

    def __init__(self, voice: Voice, rng: np.random.Generator) -> None:
        self.user: Channel = Channel()
        self.agent: Channel = Channel()
        self.rng = rng
        self.now: float = 0.0
        """The current time: the end of the last scene."""
        self.voice: Voice = voice
        """The user's."""

    def user_says(self, text: str, at: float) -> float:
        """Add an utterance of the user; return its end."""
        return _add(self.user, at, *speak_words(self.voice, text, self.rng))

    def agent_says(self, text: str, at: float) -> float:
        """Add an utterance of the agent from the next frame on; return its end."""
        return _add(self.agent, _next_frame(at), *speak_as_agent(text))

    def interrupt_agent(self, at: float) -> None:
        """Stop the agent at the next frame."""
        self.agent.cut(_next_frame(at))


def _add(channel: Channel, at: float, pcm: Float32, words: list[Word]) -> float:
    channel.add(at, pcm, words)
    return at + len(pcm) / SAMPLE_RATE


def _next_frame(at: float) -> float:
    return math.ceil(at / FRAME) * FRAME


def _fade_out(pcm: Float32, length: int, fade: int) -> Float32:
    """Return the first ``length`` samples, with a fade-out at their end."""
    if len(pcm) <= length:
        return pcm
    kept = pcm[:length].copy()
    fade = min(fade, length)
    kept[length - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return kept
