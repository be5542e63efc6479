"""The scenes of simulated dialogues: they define the conversational behaviour that the agent learns.

1. An answer begins about 0.4 s after the last word of a question, and not in a pause within it. That it did not
   understand, it says after a second: who tells something pauses for less.
2. On an interruption, the agent stops within 0.45 s and answers the new question.
3. A backchannel of the user ("mm-hm") does not stop it.
4. During a long turn of the user that is announced, it gives backchannels itself; without an opener it listens.
5. Who goes on while it answers is yielded to.
6. It does not react to noise, music, its own echo and bystanders.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from duplex.training.dialogues.phrasings import Phrasings, Split
from duplex.training.dialogues.timeline import DialogueTimeline
from duplex.training.dialogues.topics import TOPICS, Exchange, Memory, draw_exchange, off_topic_sentence

__all__ = ["AGENT_BACKCHANNELS", "SCENES", "Script"]

GAP = (0.3, 2.0)
REACTION = (0.24, 0.48)
PONDERING = (0.9, 1.25)
"""From what is not understood to the answer that says so."""
THINKING = (0.35, 1.3)
SHARE_OF_PAUSES = 0.4
STOPPING = (0.26, 0.38)
BREATH = (0.3, 0.85)
"""Pause between the sentences of a long turn."""
SHARE_OF_RESUMPTIONS = 0.35
"""How often who has told something goes on while the agent says that it did not understand."""
LISTENING = (0.12, 0.3)
"""From the end of a sentence to the agent's backchannel."""
USER_BACKCHANNELS = ("Mm-hm.", "Okay.", "Yeah.", "Right.", "Uh-huh.")
AGENT_BACKCHANNELS = ("Mm-hm.", "Okay.", "Right.")
OPENERS = Phrasings(
    ("Let me tell you something.", "Listen to this.", "I want to tell you a story.", "Guess what happened."),
    ("Let me tell you a story.", "I want to tell you something."),
)
LONG = ("count", "joke", "ability", "identity", "add", "subtract", "capital", "greet", "story")
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
    "how are you": 1.3,
    "sorry": 0.7,
    "wait": 0.8,
    "time": 0.7,
    "date": 0.7,
}
"""Sampling weights of topics, 1 for others: higher for topics with many answers or short questions."""


class Script:
    """Samples what is said on a timeline, in the phrasings of one split."""

    def __init__(self, timeline: DialogueTimeline, split: Split) -> None:
        self.timeline = timeline
        self.rng: np.random.Generator = timeline.rng
        self.split: Split = split
        self.memory: Memory = Memory()

    def question(self, topics: Sequence[str] = tuple(TOPICS)) -> Exchange:
        """Sample a question of one of the topics, with its answer."""
        weights = np.array([WEIGHTS.get(topic, 1.0) for topic in topics])
        topic = topics[int(self.rng.choice(len(topics), p=weights / weights.sum()))]
        return draw_exchange(topic, self.split, self.rng, self.memory)

    def user_asks(self, exchange: Exchange, at: float) -> float:
        """Add the user's question, sometimes with hesitations; return the end of its last word."""
        parts = exchange.question.split("|")
        if len(parts) == 1 or self.rng.random() > SHARE_OF_PAUSES:
            return self.timeline.user_says(" ".join(exchange.question.replace("|", " ").split()), at)
        for part in parts[:-1]:
            at = self.timeline.user_says(part.strip(), at) + self.rng.uniform(*THINKING)
        return self.timeline.user_says(parts[-1].strip(), at)

    def agent_answers(self, exchange: Exchange, at: float) -> tuple[float, float]:
        """Add the agent's answer to a question that ended at ``at``; return its start and end."""
        start = at + self.rng.uniform(*(PONDERING if exchange.topic == "unknown" else REACTION))
        return start, self.timeline.agent_says(exchange.answer, start)

    def next_start(self) -> float:
        """Return the start of the next turn."""
        return self.timeline.now + self.rng.uniform(*GAP)


def question_and_answer(script: Script) -> None:
    """Add a question and its answer."""
    asked = script.question()
    _, script.timeline.now = script.agent_answers(asked, script.user_asks(asked, script.next_start()))


def interruption(script: Script) -> None:
    """Add a question, and another in the middle of its answer."""
    first, rng = script.question(LONG), script.rng
    start, end = script.agent_answers(first, script.user_asks(first, script.next_start()))
    at = rng.uniform(start + 0.3, max(start + 0.4, end - 0.3))
    script.timeline.interrupt_agent(at + rng.uniform(*STOPPING))
    second = script.question()
    _, script.timeline.now = script.agent_answers(second, script.user_asks(second, at))


def user_backchannel(script: Script) -> None:
    """Add a question, and a backchannel of the user in the middle of its answer."""
    asked, rng = script.question(LONG), script.rng
    start, end = script.agent_answers(asked, script.user_asks(asked, script.next_start()))
    phrase = USER_BACKCHANNELS[rng.integers(len(USER_BACKCHANNELS))]
    script.timeline.now = max(end, script.timeline.user_says(phrase, rng.uniform(start + 0.3, end)))


def long_turn(script: Script) -> None:
    """Add a long turn of the user with backchannels of the agent, and a question at its end."""
    rng, timeline = script.rng, script.timeline
    at = timeline.user_says(OPENERS.draw(script.split, rng), script.next_start()) + rng.uniform(*BREATH)
    for _ in range(rng.integers(2, 4)):
        at = timeline.user_says(off_topic_sentence(rng), at)
        phrase = AGENT_BACKCHANNELS[rng.integers(len(AGENT_BACKCHANNELS))]
        timeline.agent_says(phrase, at + rng.uniform(*LISTENING))
        at += rng.uniform(*BREATH)
    # An off-topic question could not be told from the sentences before, which are answered by a backchannel.
    asked = script.question([topic for topic in TOPICS if topic != "unknown"])
    _, timeline.now = script.agent_answers(asked, script.user_asks(asked, at))


def monologue(script: Script) -> None:
    """Add a turn about something that the agent knows nothing of, with pauses, and sometimes more when it answers."""
    rng, timeline = script.rng, script.timeline
    unknown = draw_exchange("unknown", script.split, rng, script.memory)
    start, end = script.agent_answers(unknown, _tell(script, script.next_start(), int(rng.integers(1, 4))))
    if rng.random() < SHARE_OF_RESUMPTIONS:
        at = rng.uniform(start + 0.1, end - 0.3)
        timeline.interrupt_agent(at + rng.uniform(*STOPPING))
        _, end = script.agent_answers(unknown, _tell(script, at, int(rng.integers(1, 3))))
    timeline.now = end


def _tell(script: Script, at: float, sentences: int) -> float:
    """Add sentences of the user, and pauses within and between them; return the end."""
    rng, end = script.rng, at
    for _ in range(sentences):
        words = off_topic_sentence(rng).split()
        half = int(rng.integers(1, len(words) + 1)) if rng.random() < SHARE_OF_PAUSES else len(words)
        for part in filter(None, (words[:half], words[half:])):
            end = script.timeline.user_says(" ".join(part), at)
            at = end + rng.uniform(*BREATH)
    return end


def introduction(script: Script) -> None:
    """Add a turn in which the user gives a name, and a question for it soon after."""
    for topics in (("tell name",), *[tuple(TOPICS)] * int(script.rng.integers(3)), ("ask name",)):
        asked = script.question([topic for topic in topics if len(topics) == 1 or "name" not in topic])
        _, script.timeline.now = script.agent_answers(asked, script.user_asks(asked, script.next_start()))


def silence(script: Script) -> None:
    """Add some seconds in which nobody speaks."""
    script.timeline.now += script.rng.uniform(2, 8)


SCENES: Mapping[Callable[[Script], None], float] = {
    question_and_answer: 0.52,
    interruption: 0.15,
    user_backchannel: 0.06,
    long_turn: 0.06,
    monologue: 0.07,
    introduction: 0.06,
    silence: 0.08,
}
"""The scenes with their probabilities."""
