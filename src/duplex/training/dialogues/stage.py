"""Where a dialogue is performed: two channels on one time line, filled with speech as it is said.

Times are seconds from the dialogue's beginning.
"""

import math

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import Voice
from duplex.training.dialogues.dialogue import Word
from duplex.training.dialogues.speech import said, said_by_agent

__all__ = ["Channel", "Stage"]

Float32 = NDArray[np.float32]
FADE = 0.03
FRAME = 0.08
"""The agent acts frame by frame: what it says begins with one, and is broken off with one."""


class Channel:
    """One speaker's channel."""

    def __init__(self) -> None:
        self.words: list[Word] = []
        self._pieces: list[tuple[int, Float32]] = []

    @property
    def end(self) -> float:
        """When the last sound in it ends."""
        return max((start + len(pcm) for start, pcm in self._pieces), default=0) / SAMPLE_RATE

    def add(self, at: float, pcm: Float32, words: list[Word]) -> None:
        """Put in sound at a time, and its words, whose times count from there."""
        self._pieces.append((round(at * SAMPLE_RATE), pcm))
        self.words += [attrs.evolve(word, start=word.start + at, end=word.end + at) for word in words]

    def cut(self, at: float) -> None:
        """Fall silent at a time: what was begun fades out, what was to come is never said."""
        last, length = round(at * SAMPLE_RATE), round(FADE * SAMPLE_RATE)
        self._pieces = [(start, _faded(pcm, last - start, length)) for start, pcm in self._pieces if start < last]
        self.words = [attrs.evolve(word, end=min(word.end, at)) for word in self.words if word.start < at]

    def sound(self, seconds: float) -> Float32:
        """Return the whole channel, float32 ``[samples]``."""
        whole = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
        for start, pcm in self._pieces:
            piece = pcm[: max(0, len(whole) - start)]
            whole[start : start + len(piece)] += piece
        return whole


class Stage:
    """A user and the agent."""

    def __init__(self, voice: Voice, rng: np.random.Generator) -> None:
        self.user: Channel = Channel()
        self.agent: Channel = Channel()
        self.rng = rng
        self.now: float = 0.0
        """Up to when everything has happened."""
        self._voice = voice

    def user_says(self, text: str, at: float) -> float:
        """Have the user say something; return when it ends."""
        return _put(self.user, at, *said(self._voice, text, self.rng))

    def agent_says(self, text: str, at: float) -> float:
        """Have the agent say something, from the next frame on; return when it ends."""
        return _put(self.agent, _next_frame(at), *said_by_agent(text))

    def agent_falls_silent(self, at: float) -> None:
        """Have the agent break off with the next frame."""
        self.agent.cut(_next_frame(at))


def _put(channel: Channel, at: float, pcm: Float32, words: list[Word]) -> float:
    channel.add(at, pcm, words)
    return at + len(pcm) / SAMPLE_RATE


def _next_frame(at: float) -> float:
    return math.ceil(at / FRAME) * FRAME


def _faded(pcm: Float32, length: int, fade: int) -> Float32:
    """Return the first samples, the last of them fading out."""
    if len(pcm) <= length:
        return pcm
    kept = pcm[:length].copy()
    fade = min(fade, length)
    kept[length - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return kept
