"""The topics of simulated dialogues: users' questions, and the agent's answers."""

import re
from collections.abc import Callable, Mapping

import attrs
import numpy as np

from duplex.training.data.sentences import sentence
from duplex.training.dialogues.facts import (
    CAPITALS,
    COLOURS,
    DAYS,
    JOKES,
    MONTHS,
    NAMES,
    NUMBERS,
    OPPOSITES,
    REPEATED,
    STORIES,
)
from duplex.training.dialogues.phrasings import PHRASINGS, Split

__all__ = ["BUILT_IN", "TOPICS", "Exchange", "Memory", "draw_exchange", "off_topic_sentence"]

UNKNOWN_ANSWER = "Sorry, I did not understand that."
NOTHING_SAID = "I have told you nothing."
MAX_SUM = 20
MAX_COUNT = 10
ON_TOPIC = re.compile(
    r"\b(hello|hi|good (morning|evening|afternoon)|bye|thank|my name|how are you|plus|minus|colour|capital|joke|count"
    r"|story|sorry|wait|what (time|day)|say that)",
    re.IGNORECASE,
)
"""Matches sentences that the agent could answer, and that are therefore not off topic."""


@attrs.frozen(kw_only=True)
class Exchange:
    """A question, or any other turn of the user, and the agent's answer."""

    topic: str
    question: str
    """With ``|`` where the user may hesitate."""
    answer: str
    keys: tuple[str, ...]
    """A correct answer contains one of these, in lower case, whatever else it says."""
    exact: bool = False
    """Whether a correct answer contains nothing else."""


@attrs.define
class Memory:
    """The dialogue state: the user's name, if it was told, and what the agent said last."""

    name: str | None = None
    said: str | None = None


def draw_exchange(topic: str, split: Split, rng: np.random.Generator, memory: Memory) -> Exchange:
    """Sample a question of a topic and its answer, given the dialogue state, which is brought up to date."""
    fact = TOPICS[topic](rng, memory)
    question = PHRASINGS[topic].draw(split, rng).format_map(fact.slots)
    memory.said = fact.answer
    return Exchange(
        topic=topic,
        question=question[0].upper() + question[1:],
        answer=fact.answer[0].upper() + fact.answer[1:],
        keys=fact.keys,
        exact=fact.exact,
    )


@attrs.frozen(kw_only=True)
class Fact:
    """A fact: the answer, its keys, and what fills a phrasing's slots."""

    answer: str
    keys: tuple[str, ...]
    slots: Mapping[str, str] = attrs.Factory(dict[str, str])
    exact: bool = False


Draw = Callable[[np.random.Generator, Memory], Fact]


def _always(answer: str, key: str) -> Draw:
    return lambda _, __: Fact(answer=answer, keys=(key,))


def _tell_name(rng: np.random.Generator, memory: Memory) -> Fact:
    memory.name = NAMES[rng.integers(len(NAMES))]
    return Fact(slots={"name": memory.name}, answer=f"Nice to meet you, {memory.name}.", keys=(memory.name.lower(),))


def _ask_name(_: np.random.Generator, memory: Memory) -> Fact:
    if memory.name is None:
        return Fact(answer="You have not told me your name.", keys=("not told me",))
    return Fact(answer=f"Your name is {memory.name}.", keys=(memory.name.lower(),))


def _sum(word: str) -> Draw:
    def draw(rng: np.random.Generator, _: Memory) -> Fact:
        whole = int(rng.integers(2, MAX_SUM + 1))
        part = int(rng.integers(1, whole))
        first, second, result = (whole, part, whole - part) if word == "minus" else (part, whole - part, whole)
        a, b, c = (NUMBERS[number] for number in (first, second, result))
        return Fact(slots={"a": a, "b": b}, answer=f"{a} {word} {b} is {c}.", keys=(f"is {c}",))

    return draw


def _neighbour(step: int, word: str) -> Draw:
    def draw(rng: np.random.Generator, _: Memory) -> Fact:
        kind, row = (("day", DAYS), ("month", MONTHS))[rng.integers(2)]
        place = int(rng.integers(len(row)))
        it, other = row[place], row[(place + step) % len(row)]
        statement = f"{other} comes {word} {it}"
        return Fact(slots={"it": it, "kind": kind}, answer=f"{statement}.", keys=(statement.lower(),))

    return draw


def _of(table: Mapping[str, str], answer: str) -> Draw:
    pairs = list(table.items())

    def draw(rng: np.random.Generator, _: Memory) -> Fact:
        it, other = pairs[rng.integers(len(pairs))]
        return Fact(slots={"it": it}, answer=answer.format(it=it, other=other), keys=(f"is {other.lower()}",))

    return draw


def _count(rng: np.random.Generator, _: Memory) -> Fact:
    numbers = NUMBERS[1 : int(rng.integers(3, MAX_COUNT + 1)) + 1]
    return Fact(slots={"n": numbers[-1]}, answer=", ".join(numbers) + ".", keys=(" ".join(numbers),), exact=True)


def _repeat(rng: np.random.Generator, _: Memory) -> Fact:
    describes, named = (REPEATED[kind][rng.integers(len(REPEATED[kind]))] for kind in ("describes", "named"))
    phrase = f"the {describes} {named}"
    return Fact(slots={"phrase": phrase}, answer=f"{phrase}.", keys=(phrase,))


def _joke(rng: np.random.Generator, _: Memory) -> Fact:
    points = tuple(joke.rsplit("? ", 1)[1].rstrip(".").lower() for joke in JOKES)
    return Fact(answer=JOKES[rng.integers(len(JOKES))], keys=points)


def _story(rng: np.random.Generator, _: Memory) -> Fact:
    ends = tuple(" ".join(story.lower().rstrip(".").split()[-3:]) for story in STORIES)
    return Fact(answer=STORIES[rng.integers(len(STORIES))], keys=ends)


def _again(_: np.random.Generator, memory: Memory) -> Fact:
    if memory.said is None:
        return Fact(answer=NOTHING_SAID, keys=("told you nothing",))
    return Fact(answer=memory.said, keys=(re.sub(r"[^a-z ]", "", memory.said.lower()),))


def _unknown(rng: np.random.Generator, _: Memory) -> Fact:
    return Fact(slots={"sentence": off_topic_sentence(rng)}, answer=UNKNOWN_ANSWER, keys=("did not understand",))


def off_topic_sentence(rng: np.random.Generator) -> str:
    """Return a random sentence that is about none of the topics."""
    while True:
        made = sentence(rng)
        if not ON_TOPIC.search(made):
            return made


TOPICS: Mapping[str, Draw] = {
    "greet": _always("Hello! How can I help you?", "help you"),
    "goodbye": _always("Goodbye! Have a nice day.", "goodbye"),
    "thanks": _always("You are welcome.", "welcome"),
    "identity": _always("I am Duplex, a small speech model.", "duplex"),
    "ability": _always("I can answer short questions, do sums, and tell jokes.", "answer short questions"),
    "tell name": _tell_name,
    "ask name": _ask_name,
    "add": _sum("plus"),
    "subtract": _sum("minus"),
    "after": _neighbour(1, "after"),
    "before": _neighbour(-1, "before"),
    "colour": _of(COLOURS, "{it} is {other}."),
    "opposite": _of(OPPOSITES, "The opposite of {it} is {other}."),
    "capital": _of(CAPITALS, "The capital of {it} is {other}."),
    "count": _count,
    "repeat": _repeat,
    "joke": _joke,
    "unknown": _unknown,
    "how are you": _always("I am good, thank you. How can I help you?", "am good"),
    "sorry": _always("It is not so bad.", "not so bad"),
    "wait": _always("Okay, I have time.", "have time"),
    "again": _again,
    "time": _always("I do not have a clock.", "have a clock"),
    "date": _always("I do not know the day.", "not know the day"),
    "story": _story,
}
"""The sampling function of each topic."""

BUILT_IN = tuple(TOPICS)[: tuple(TOPICS).index("unknown") + 1]
"""The topics of the built-in model; those after them came later, and it has not learnt them."""
