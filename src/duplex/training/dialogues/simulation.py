"""Simulation of a dialogue: a random sequence of scenes, and the resulting channels."""

import itertools
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.voices import Voice
from duplex.training.dialogues.dialogue import Dialogue, Word
from duplex.training.dialogues.microphone import microphone_signal
from duplex.training.dialogues.phrasings import Split
from duplex.training.dialogues.scenes import SCENES, Script, silence
from duplex.training.dialogues.timeline import DialogueTimeline

__all__ = ["simulate_dialogue"]

END = 1.0
"""Seconds of silence at the end."""
SHORTEST_QUIET = 1.0
SHARE_OF_LATE_STARTS = 0.3
"""Share of the dialogues that begin with silence or noise, as a call may."""


def simulate_dialogue(
    name: str,
    voices: Sequence[Voice],
    seconds: float,
    rng: np.random.Generator,
    split: Split,
    *,
    stretch: float = 1.0,
    rooms: np.random.Generator | None = None,
) -> Dialogue:
    """Return a dialogue of about ``seconds`` seconds between the agent and one of the user voices.

    Phrasings are those of ``split``; voices are sampled in proportion to their minutes. The user's is ``stretch`` times
    as high and fast; ``rooms`` draws what the microphone hears besides, by default ``rng``. So a dialogue can be held
    again with the same words by a similar voice elsewhere.

    :raises MissingDependencyError: if a voice's synthesizer is not installed
    """
    shares = np.array([voice.minutes or 1.0 for voice in voices])
    user, bystander = (voices[int(one)] for one in _draw_two(shares, rng))
    timeline = DialogueTimeline(attrs.evolve(user.sample_speaker(rng), stretch=stretch), rng)
    script = Script(timeline, split)
    scenes, often = list(SCENES), np.array(list(SCENES.values()))
    if rng.random() < SHARE_OF_LATE_STARTS:
        silence(script)
    while timeline.now < seconds:
        scenes[int(rng.choice(len(scenes), p=often / often.sum()))](script)
    whole = max(timeline.now, timeline.user.end, timeline.agent.end) + END
    agent = timeline.agent.sound(whole)
    there = rooms or rng
    words = sorted(timeline.user.words, key=lambda word: word.start)
    return Dialogue(
        name=name,
        sample_rate=SAMPLE_RATE,
        user=microphone_signal(
            timeline.user.sound(whole), agent, _pauses(words, whole), bystander.sample_speaker(there), there
        ),
        agent=agent,
        agent_words=tuple(timeline.agent.words),
        user_words=tuple(words),
    )


def _draw_two(shares: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return two indices sampled by ``shares``, different ones unless there is only one."""
    if len(shares) == 1:
        return np.zeros(2, np.int64)
    return rng.choice(len(shares), 2, replace=False, p=shares / shares.sum())


def _pauses(words: Sequence[Word], end: float) -> list[tuple[float, float]]:
    """Return the pauses between the words, as start and end in seconds."""
    bounds = [(0.0, 0.0), *((word.start, word.end) for word in words), (end, end)]
    gaps = [(before[1], after[0]) for before, after in itertools.pairwise(bounds)]
    return [(start, stop) for start, stop in gaps if stop - start >= SHORTEST_QUIET]
