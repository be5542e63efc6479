"""What is talked about: questions as users put them, and the agent's answers.

Every topic has phrasings for training and others that are kept for testing, whole. A phrasing is a template; a vertical
bar in it marks where a user may pause to think.
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal

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

__all__ = ["PHRASINGS", "TOPICS", "Exchange", "Memory", "Phrasings", "ask", "beside_the_point"]

UNKNOWN_ANSWER = "Sorry, I did not understand that."
LARGEST_SUM = 20
LARGEST_COUNT = 10
ABOUT_TOPICS = re.compile(
    r"\b(hello|hi|good (morning|evening|afternoon)|bye|thank|my name|how are you|plus|minus|colour|capital|joke|count)",
    re.IGNORECASE,
)
"""What would make an answer of a sentence that is meant to be beside the point."""
Use = Literal["training", "testing"]


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


@attrs.frozen
class Phrasings:
    """Templates of one topic's questions."""

    training: tuple[str, ...]
    testing: tuple[str, ...]

    def draw(self, use: Use, rng: np.random.Generator) -> str:
        """Return one of those for a use."""
        templates = self.training if use == "training" else self.testing
        return templates[rng.integers(len(templates))]


PHRASINGS: Mapping[str, Phrasings] = {
    "greet": Phrasings(
        ("Hello.", "Hi.", "Hello there.", "Good morning.", "Hey, how are you?", "Good evening.", "Hi, how are you?"),
        ("Hello, how are you?", "Hi there.", "Good afternoon."),
    ),
    "goodbye": Phrasings(
        ("Goodbye.", "Bye bye.", "See you later.", "Thank you, goodbye.", "Okay, bye.", "I have to go now."),
        ("Bye.", "Goodbye, see you later.", "Thanks, bye bye."),
    ),
    "thanks": Phrasings(("Thank you.", "Thanks a lot.", "Thank you very much."), ("Thanks.", "Many thanks.")),
    "identity": Phrasings(
        (
            "Who are you?",
            "What is your name?",
            "What are you called?",
            "Tell me | who you are.",
            "Who is this?",
        ),
        ("What's your name?", "Tell me your name.", "Please tell me | who you are."),
    ),
    "ability": Phrasings(
        ("What can you do?", "What do you know?", "How can you help me?", "What can I | ask you?"),
        ("Tell me | what you can do.", "What things can you do?"),
    ),
    "tell name": Phrasings(
        (
            "My name is | {name}.",
            "I am | {name}.",
            "Hello, my name is {name}.",
            "Call me {name}.",
            "I'm {name}.",
        ),
        ("Hi, I am {name}.", "You can | call me {name}.", "Well, my name is {name}."),
    ),
    "ask name": Phrasings(
        ("What is my name?", "Do you remember | my name?", "Who am I?", "Tell me my name.", "What am I called?"),
        ("Do you know my name?", "What's my name?", "Can you tell me | my name?"),
    ),
    "add": Phrasings(
        (
            "What is | {a} plus {b}?",
            "How much is | {a} plus {b}?",
            "{a} plus {b}.",
            "Add {a} | and {b}.",
            "Tell me, | what is {a} plus {b}?",
            "What do you get | if you add {a} and {b}?",
        ),
        ("What's {a} plus {b}?", "Can you add | {a} and {b}?", "Please tell me | how much is {a} plus {b}."),
    ),
    "subtract": Phrasings(
        (
            "What is | {a} minus {b}?",
            "How much is | {a} minus {b}?",
            "{a} minus {b}.",
            "Take {b} | from {a}.",
            "Tell me, | what is {a} minus {b}?",
        ),
        ("What's {a} minus {b}?", "Please tell me | how much is {a} minus {b}."),
    ),
    "after": Phrasings(
        ("What comes | after {it}?", "Which {kind} comes | after {it}?", "What {kind} is after {it}?"),
        ("What {kind} comes after {it}?", "Tell me | what comes after {it}."),
    ),
    "before": Phrasings(
        ("What comes | before {it}?", "Which {kind} comes | before {it}?", "What {kind} is before {it}?"),
        ("What {kind} comes before {it}?", "Tell me | what comes before {it}."),
    ),
    "colour": Phrasings(
        (
            "What colour is | {it}?",
            "Which colour is {it}?",
            "Tell me | the colour of {it}.",
            "What colour has {it}?",
        ),
        ("What is | the colour of {it}?", "Do you know | what colour {it} is?"),
    ),
    "opposite": Phrasings(
        (
            "What is | the opposite of {it}?",
            "The opposite of {it}?",
            "Tell me | the opposite of {it}.",
            "What is the contrary of {it}?",
        ),
        ("What's the opposite of {it}?", "Do you know | the opposite of {it}?"),
    ),
    "capital": Phrasings(
        (
            "What is | the capital of {it}?",
            "The capital of {it}?",
            "Tell me | the capital of {it}.",
            "Which city is | the capital of {it}?",
            "Do you know | the capital of {it}?",
        ),
        ("What's the capital of {it}?", "Can you tell me | the capital of {it}?", "Name the capital of {it}."),
    ),
    "count": Phrasings(
        ("Count to {n}.", "Please count | to {n}.", "Can you count to {n}?", "Count from one | to {n}."),
        ("Could you | count to {n}?", "Let me hear you count to {n}."),
    ),
    "repeat": Phrasings(
        ("Repeat after me, | {phrase}.", "Say {phrase}.", "Repeat {phrase}.", "Please say | {phrase}."),
        ("Can you say | {phrase}?", "Please repeat {phrase}."),
    ),
    "joke": Phrasings(
        ("Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Please tell me | a joke."),
        ("Can you tell me a joke?", "I want to hear | a joke."),
    ),
    "unknown": Phrasings(("{sentence}",), ("{sentence}",)),
}


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
