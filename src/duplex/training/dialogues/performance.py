"""A dialogue from beginning to end: scenes one after another, and what the user's microphone hears of them."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import Voice
from duplex.training.dialogues.dialogue import Dialogue, Word
from duplex.training.dialogues.hearing import heard
from duplex.training.dialogues.phrasings import Use
from duplex.training.dialogues.scenes import SCENES, Script, silence
from duplex.training.dialogues.stage import Stage

__all__ = ["perform"]

END = 1.0
"""Seconds of silence at the end."""
SHORTEST_QUIET = 1.0
SHARE_OF_LATE_STARTS = 0.3
"""Of the dialogues in which nobody says anything at first: a call may begin with noise."""


def perform(name: str, cast: Sequence[Voice], seconds: float, rng: np.random.Generator, use: Use) -> Dialogue:
    """Return a dialogue of about so many seconds, between the agent and one of a cast of users' voices.

    Phrasings are those for ``use``; who has more minutes speaks more often.

    :raises MissingDependencyError: if a voice's engine is not installed
    """
    shares = np.array([voice.minutes or 1.0 for voice in cast])
    user, bystander = (cast[int(one)] for one in _two_of(shares, rng))
    stage = Stage(user.settled(rng), rng)
    script = Script(stage, use)
    scenes, often = list(SCENES), np.array(list(SCENES.values()))
    if rng.random() < SHARE_OF_LATE_STARTS:
        silence(script)
    while stage.now < seconds:
        scenes[int(rng.choice(len(scenes), p=often / often.sum()))](script)
    whole = max(stage.now, stage.user.end, stage.agent.end) + END
    agent = stage.agent.sound(whole)
    words = sorted(stage.user.words, key=lambda word: word.start)
    return Dialogue(
        name=name,
        sample_rate=SAMPLE_RATE,
        user=heard(stage.user.sound(whole), agent, _quiet(words, whole), bystander.settled(rng), rng),
        agent=agent,
        agent_words=tuple(stage.agent.words),
        user_words=tuple(words),
    )


def _two_of(shares: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return two places, drawn by their shares: different ones, unless there is only one."""
    if len(shares) == 1:
        return np.zeros(2, np.int64)
    return rng.choice(len(shares), 2, replace=False, p=shares / shares.sum())


def _quiet(words: Sequence[Word], end: float) -> list[tuple[float, float]]:
    """Return the stretches in which nobody says any of the words, from second to second."""
    bounds = [(0.0, 0.0), *((word.start, word.end) for word in words), (end, end)]
    gaps = [(before[1], after[0]) for before, after in itertools.pairwise(bounds)]
    return [(start, stop) for start, stop in gaps if stop - start >= SHORTEST_QUIET]
