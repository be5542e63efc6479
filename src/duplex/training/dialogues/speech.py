"""Speech with its words' times: what a voice says, without silence around it, and when each word begins.

Synthesizers do not tell when they say what. Within an utterance without a pause, time is shared out among the words by
how many letters they have, which is right to a frame or two.
"""

import zlib
from functools import cache

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import AGENT, Voice
from duplex.training.dialogues.dialogue import Word

__all__ = ["said", "said_by_agent"]

Float32 = NDArray[np.float32]
BLOCK = SAMPLE_RATE // 100
AUDIBLE = 0.04
"""Of an utterance's loudest block: below it, its beginning and end are silence."""
KEPT = 2
"""Blocks of silence that stay at either end."""
LETTERS_OF_A_WORD = 2.0
"""What every word takes, counted in letters: short ones are not as short as they are spelt."""
STEADY_AGENT = attrs.evolve(AGENT, speed=(1.0, 1.0))
"""What it answers is learnt, so how it sounds shall follow from what it says."""
PAUSE_LETTERS = {",": 2.0, ".": 4.0, "!": 4.0, "?": 4.0, ";": 3.0, ":": 3.0}


def said(voice: Voice, text: str, rng: np.random.Generator) -> tuple[Float32, list[Word]]:
    """Return an utterance, float32 ``[samples]`` at 24 kHz, and its words; times count from its beginning."""
    pcm = trimmed(voice.speak(text, rng))
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
def said_by_agent(text: str) -> tuple[Float32, list[Word]]:
    """Return an utterance of the agent's, which says the same thing the same way each time."""
    return said(STEADY_AGENT, text, np.random.default_rng(zlib.crc32(text.encode())))


def trimmed(pcm: Float32) -> Float32:
    """Return an utterance without the silence before and after it."""
    blocks = np.abs(np.pad(pcm, (0, -len(pcm) % BLOCK))).reshape(-1, BLOCK).max(axis=1, initial=0)
    audible = np.flatnonzero(blocks > AUDIBLE * blocks.max(initial=0))
    if not len(audible):
        return pcm
    return pcm[max(0, audible[0] - KEPT) * BLOCK : (audible[-1] + 1 + KEPT) * BLOCK]
