"""What happens in a dialogue, scene by scene: the behaviour that the agent learns is written here.

1. An answer begins about 0.4 s after the last word of a question, and not in a pause within it.
2. Interrupted, the agent falls silent within 0.45 s, and answers what it was interrupted with.
3. What a listener says in between ("mm-hm") does not stop it.
4. While a user tells something long, it says "mm-hm" itself.
5. Noise, music, its own echo and other people's talk are no reason to speak.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from duplex.training.dialogues.phrasings import Phrasings, Use
from duplex.training.dialogues.stage import Stage
from duplex.training.dialogues.topics import TOPICS, Exchange, Memory, ask, beside_the_point

__all__ = ["AGENT_BACKCHANNELS", "SCENES", "Script"]

GAP = (0.3, 2.0)
REACTION = (0.24, 0.48)
THINKING = (0.35, 1.3)
SHARE_OF_PAUSES = 0.4
STOPPING = (0.26, 0.38)
BREATH = (0.45, 0.8)
"""Between the sentences of a long turn."""
LISTENING = (0.12, 0.3)
"""From the end of a sentence to the agent's "mm-hm"."""
USER_BACKCHANNELS = ("Mm-hm.", "Okay.", "Yeah.", "Right.", "Uh-huh.")
AGENT_BACKCHANNELS = ("Mm-hm.", "Okay.", "Right.")
OPENERS = Phrasings(
    ("Let me tell you something.", "Listen to this.", "I want to tell you a story.", "Guess what happened."),
    ("Let me tell you a story.", "I want to tell you something."),
)
LONG = ("count", "joke", "ability", "identity", "add", "subtract", "capital", "greet")
"""Topics whose answers leave time to interrupt."""
WEIGHTS = {
    "unknown": 3.0,
    "add": 3.0,
    "subtract": 2.5,
    "capital": 3.0,
    "opposite": 2.5,
    "repeat": 2.0,
    "colour": 1.5,
    "after": 2.0,
    "before": 2.2,
    "tell name": 2.5,
    "ask name": 1.5,
    "greet": 2.2,
    "goodbye": 2.5,
    "thanks": 2.0,
    "count": 2.0,
    "ability": 1.3,
    "joke": 1.3,
}
"""How often a topic comes up, beside 1: more often, the more there is to tell apart, and the shorter it is put."""


class Script:
    """Draws what is said on a stage, in phrasings for one use."""

    def __init__(self, stage: Stage, use: Use) -> None:
        self.stage = stage
        self.rng: np.random.Generator = stage.rng
        self.use: Use = use
        self.memory: Memory = Memory()

    def question(self, topics: Sequence[str] = tuple(TOPICS)) -> Exchange:
        """Draw something that the user says, and its answer."""
        weights = np.array([WEIGHTS.get(topic, 1.0) for topic in topics])
        topic = topics[int(self.rng.choice(len(topics), p=weights / weights.sum()))]
        return ask(topic, self.use, self.rng, self.memory)

    def asked(self, exchange: Exchange, at: float) -> float:
        """Have the user ask, with a pause to think now and then; return when the last word ends."""
        parts = exchange.question.split("|")
        if len(parts) == 1 or self.rng.random() > SHARE_OF_PAUSES:
            return self.stage.user_says(" ".join(exchange.question.replace("|", " ").split()), at)
        for part in parts[:-1]:
            at = self.stage.user_says(part.strip(), at) + self.rng.uniform(*THINKING)
        return self.stage.user_says(parts[-1].strip(), at)

    def answered(self, exchange: Exchange, at: float) -> tuple[float, float]:
        """Have the agent answer what ended at a time; return when it begins and ends."""
        start = at + self.rng.uniform(*REACTION)
        return start, self.stage.agent_says(exchange.answer, start)

    def later(self) -> float:
        """Return when the next thing begins."""
        return self.stage.now + self.rng.uniform(*GAP)


def question_and_answer(script: Script) -> None:
    """Perform a question and its answer."""
    asked = script.question()
    _, script.stage.now = script.answered(asked, script.asked(asked, script.later()))


def interruption(script: Script) -> None:
    """Perform a question, and another in the middle of the answer."""
    first, rng = script.question(LONG), script.rng
    start, end = script.answered(first, script.asked(first, script.later()))
    at = rng.uniform(start + 0.3, max(start + 0.4, end - 0.3))
    script.stage.agent_falls_silent(at + rng.uniform(*STOPPING))
    second = script.question()
    _, script.stage.now = script.answered(second, script.asked(second, at))


def encouragement(script: Script) -> None:
    """Perform a question, and "mm-hm" from the user in the middle of the answer."""
    asked, rng = script.question(LONG), script.rng
    start, end = script.answered(asked, script.asked(asked, script.later()))
    said = USER_BACKCHANNELS[rng.integers(len(USER_BACKCHANNELS))]
    script.stage.now = max(end, script.stage.user_says(said, rng.uniform(start + 0.3, end)))


def story(script: Script) -> None:
    """Perform a long turn of the user, with "mm-hm" from the agent, and a question at its end."""
    rng, stage = script.rng, script.stage
    at = stage.user_says(OPENERS.draw(script.use, rng), script.later()) + rng.uniform(*BREATH)
    for _ in range(rng.integers(2, 4)):
        at = stage.user_says(beside_the_point(rng), at)
        said = AGENT_BACKCHANNELS[rng.integers(len(AGENT_BACKCHANNELS))]
        stage.agent_says(said, at + rng.uniform(*LISTENING))
        at += rng.uniform(*BREATH)
    # One that is beside the point would be like what was told before, to which "mm-hm" is the answer.
    asked = script.question([topic for topic in TOPICS if topic != "unknown"])
    _, stage.now = script.answered(asked, script.asked(asked, at))


def introduction(script: Script) -> None:
    """Perform a user's telling a name, and asking for it soon after."""
    for topics in (("tell name",), *[tuple(TOPICS)] * int(script.rng.integers(3)), ("ask name",)):
        asked = script.question([topic for topic in topics if len(topics) == 1 or "name" not in topic])
        _, script.stage.now = script.answered(asked, script.asked(asked, script.later()))


def silence(script: Script) -> None:
    """Let some time pass in which nobody says anything."""
    script.stage.now += script.rng.uniform(2, 8)


SCENES: Mapping[Callable[[Script], None], float] = {
    question_and_answer: 0.56,
    interruption: 0.16,
    encouragement: 0.07,
    story: 0.07,
    introduction: 0.06,
    silence: 0.08,
}
"""Scenes and how often they come."""
