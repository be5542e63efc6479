"""What is talked about: what users say to the agent, and its answers."""

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
)
from duplex.training.dialogues.phrasings import PHRASINGS, Use

__all__ = ["TOPICS", "Exchange", "Memory", "ask", "beside_the_point"]

UNKNOWN_ANSWER = "Sorry, I did not understand that."
LARGEST_SUM = 20
LARGEST_COUNT = 10
ABOUT_TOPICS = re.compile(
    r"\b(hello|hi|good (morning|evening|afternoon)|bye|thank|my name|how are you|plus|minus|colour|capital|joke|count)",
    re.IGNORECASE,
)
"""What would make an answer of a sentence that is meant to be beside the point."""


@attrs.frozen(kw_only=True)
class Exchange:
    """A question, or anything else that a user says to the agent, and the answer."""

    topic: str
    question: str
    """With ``|`` where the user may pause."""
    answer: str
    keys: tuple[str, ...]
    """A right answer has one of these in it, whatever else it says: lower case words."""
    exact: bool = False
    """Whether a right answer says nothing else."""


@attrs.define
class Memory:
    """What the agent has been told in a conversation."""

    name: str | None = None


def ask(topic: str, use: Use, rng: np.random.Generator, memory: Memory) -> Exchange:
    """Draw what a user asks of a topic, and what the agent answers, given what it has been told; it is told names."""
    drawn = TOPICS[topic](rng, memory)
    question = PHRASINGS[topic].draw(use, rng).format_map(drawn.slots)
    return Exchange(
        topic=topic,
        question=question[0].upper() + question[1:],
        answer=drawn.answer[0].upper() + drawn.answer[1:],
        keys=drawn.keys,
        exact=drawn.exact,
    )


@attrs.frozen(kw_only=True)
class Drawn:
    """A fact: the answer, its keys, and what fills a phrasing's slots."""

    answer: str
    keys: tuple[str, ...]
    slots: Mapping[str, str] = attrs.Factory(dict[str, str])
    exact: bool = False


Draw = Callable[[np.random.Generator, Memory], Drawn]


def _always(answer: str, key: str) -> Draw:
    return lambda _, __: Drawn(answer=answer, keys=(key,))


def _tell_name(rng: np.random.Generator, memory: Memory) -> Drawn:
    memory.name = NAMES[rng.integers(len(NAMES))]
    return Drawn(slots={"name": memory.name}, answer=f"Nice to meet you, {memory.name}.", keys=(memory.name.lower(),))


def _ask_name(_: np.random.Generator, memory: Memory) -> Drawn:
    if memory.name is None:
        return Drawn(answer="You have not told me your name.", keys=("not told me",))
    return Drawn(answer=f"Your name is {memory.name}.", keys=(memory.name.lower(),))


def _sum(word: str) -> Draw:
    def draw(rng: np.random.Generator, _: Memory) -> Drawn:
        whole = int(rng.integers(2, LARGEST_SUM + 1))
        part = int(rng.integers(1, whole))
        first, second, result = (whole, part, whole - part) if word == "minus" else (part, whole - part, whole)
        a, b, c = (NUMBERS[number] for number in (first, second, result))
        return Drawn(slots={"a": a, "b": b}, answer=f"{a} {word} {b} is {c}.", keys=(f"is {c}",))

    return draw


def _neighbour(step: int, word: str) -> Draw:
    def draw(rng: np.random.Generator, _: Memory) -> Drawn:
        kind, row = (("day", DAYS), ("month", MONTHS))[rng.integers(2)]
        place = int(rng.integers(len(row)))
        it, other = row[place], row[(place + step) % len(row)]
        told = f"{other} comes {word} {it}"
        return Drawn(slots={"it": it, "kind": kind}, answer=f"{told}.", keys=(told.lower(),))

    return draw


def _of(table: Mapping[str, str], answer: str) -> Draw:
    pairs = list(table.items())

    def draw(rng: np.random.Generator, _: Memory) -> Drawn:
        it, other = pairs[rng.integers(len(pairs))]
        return Drawn(slots={"it": it}, answer=answer.format(it=it, other=other), keys=(f"is {other.lower()}",))

    return draw


def _count(rng: np.random.Generator, _: Memory) -> Drawn:
    numbers = NUMBERS[1 : int(rng.integers(3, LARGEST_COUNT + 1)) + 1]
    return Drawn(slots={"n": numbers[-1]}, answer=", ".join(numbers) + ".", keys=(" ".join(numbers),), exact=True)


def _repeat(rng: np.random.Generator, _: Memory) -> Drawn:
    describes, named = (REPEATED[kind][rng.integers(len(REPEATED[kind]))] for kind in ("describes", "named"))
    phrase = f"the {describes} {named}"
    return Drawn(slots={"phrase": phrase}, answer=f"{phrase}.", keys=(phrase,))


def _joke(rng: np.random.Generator, _: Memory) -> Drawn:
    points = tuple(joke.rsplit("? ", 1)[1].rstrip(".").lower() for joke in JOKES)
    return Drawn(answer=JOKES[rng.integers(len(JOKES))], keys=points)


def _unknown(rng: np.random.Generator, _: Memory) -> Drawn:
    return Drawn(slots={"sentence": beside_the_point(rng)}, answer=UNKNOWN_ANSWER, keys=("did not understand",))


def beside_the_point(rng: np.random.Generator) -> str:
    """Return a made-up sentence that is about none of the topics."""
    while True:
        made = sentence(rng)
        if not ABOUT_TOPICS.search(made):
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
}
"""How each topic's facts are drawn."""
