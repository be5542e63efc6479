"""Synthesized utterances with word times, trimmed of silence.

The synthesizers return no alignment. Within an utterance without pauses, time is divided among the words in proportion
to their letters, which is accurate to a frame or two.
"""

import zlib
from functools import cache

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import AGENT_VOICE, Voice
from duplex.training.dialogues.dialogue import Word

__all__ = ["speak_as_agent", "speak_words"]

Float32 = NDArray[np.float32]
BLOCK = SAMPLE_RATE // 100
AUDIBLE = 0.04
"""Share of an utterance's loudest block, below which its beginning and end count as silence."""
KEPT = 2
"""Blocks of silence that are kept at either end."""
LETTERS_OF_A_WORD = 2.0
"""Added to the letters of every word: the duration of short words is not proportional to their letters."""
STEADY_AGENT_VOICE = attrs.evolve(AGENT_VOICE, speed=(1.0, 1.0))
"""At constant speed, so that the agent's codes follow from its text."""
PAUSE_LETTERS = {",": 2.0, ".": 4.0, "!": 4.0, "?": 4.0, ";": 3.0, ":": 3.0}


def speak_words(voice: Voice, text: str, rng: np.random.Generator) -> tuple[Float32, list[Word]]:
    """Return an utterance, float32 ``[samples]`` at 24 kHz, and its words, with times from its beginning."""
    pcm = trim_silence(voice.speak(text, rng))
    words = text.split()
    sizes = [len(word.strip(".,!?;:")) + LETTERS_OF_A_WORD for word in words]
    pauses = [PAUSE_LETTERS.get(word[-1], 0.0) for word in words]
    pauses[-1] = 0.0
    whole = len(pcm) / SAMPLE_RATE / (sum(sizes) + sum(pauses))
    starts = np.cumsum([0.0, *(size + pause for size, pause in zip(sizes, pauses, strict=True))])[:-1]
    return pcm, [
        Word(word, float(start) * whole, float(start + size) * whole)
        for word, start, size in zip(words, starts, sizes, strict=True)
    ]


@cache
def speak_as_agent(text: str) -> tuple[Float32, list[Word]]:
    """Return an utterance of the agent, which is the same each time."""
    return speak_words(STEADY_AGENT_VOICE, text, np.random.default_rng(zlib.crc32(text.encode())))


def trim_silence(pcm: Float32) -> Float32:
    """Return an utterance without leading and trailing silence."""
    blocks = np.abs(np.pad(pcm, (0, -len(pcm) % BLOCK))).reshape(-1, BLOCK).max(axis=1, initial=0)
    audible = np.flatnonzero(blocks > AUDIBLE * blocks.max(initial=0))
    if not len(audible):
        return pcm
    return pcm[max(0, audible[0] - KEPT) * BLOCK : (audible[-1] + 1 + KEPT) * BLOCK]
