"""Random English sentences for speech synthesis, with a varied vocabulary and conversational prosody.

A sentence is a template whose ``{slots}`` are filled with words; a slot may name another template. Some sentences are
plain lists of words, so that a codec cannot rely on frequent word sequences.
"""

import re

import numpy as np

from duplex.training.data.words import WORDS

__all__ = ["sentence"]

TEMPLATES: tuple[str, ...] = (
    "{noun} {transitive} {noun}.",
    "{noun} {transitive} {noun} {preposition} {placed}.",
    "{noun} {intransitive} {preposition} {placed} {adverb}.",
    "{name} {transitive} {possessive} {adjective} {thing} and {intransitive}.",
    "{adverb}, {noun} {intransitive} because {noun} {transitive} {noun}.",
    "{auxiliary} you {base} {noun} for me?",
    "{auxiliary} {subject} {base} {possessive} {thing} before {day}?",
    "what is the {abstract} of {noun}?",
    "what colour is {possessive} {thing}?",
    "where did {name} {base} the {adjective} {thing}?",
    "why did {noun} {base} {noun}?",
    "how many {animal}s are {preposition} {placed}?",
    "who {transitive} the {colour} {thing} {preposition} {placed}?",
    "when will {name} {base} {noun}?",
    "have you ever been to {town} or {country}?",
    "the capital of {country} is not {town}.",
    "my name is {name}, and I live in {town}.",
    "{greeting}, my name is {name}, what is yours?",
    "{greeting}, {name}, how are you today?",
    "{greeting}, I {base} {food} with {food} every {day}.",
    "{interjection}, that is {adjective}.",
    "{interjection}.",
    "{greeting}, {interjection}.",
    "{count} plus {count} is {count}.",
    "what is {count} minus {count}?",
    "it costs {count} dollars and {count} cents.",
    "we will meet on {day} the {count} of {month} at {digit} o'clock.",
    "the year has {count} weeks, and {month} has {count} days.",
    "please {base} {noun} {adverb}.",
    "do not {base} {noun} {preposition} {placed}.",
    "there are {count} {adjective} {animal}s and one {colour} {animal} {preposition} {placed}.",
    "{noun} was {adjective}, but {noun} was even more {adjective}.",
    "if {subject} {transitive} {noun}, {subject} would {base} {noun}.",
    "{subject} said that {noun} {transitive} {noun} {adverb}.",
    "{food}, {food} and {food} are on the list.",
    "{name} asked {name} whether {noun} {intransitive}.",
    "I think {possessive} {abstract} is {adjective} and {adjective}.",
    "the {adjective} {abstract} of {country} is about {noun}.",
    "it is {adjective} and {adjective} in {town} in {month}.",
    "{adjective} {animal}s never {base} {food}.",
    "once upon a time {noun} {transitive} {count} {colour} {animal}s.",
    "tell me a {adjective} story about {noun}.",
    "no, I mean the {colour} {thing}, not the {colour} one.",
    "the number is {digit}, {digit}, {digit}, {digit}, {digit}.",
    "{noun} and {noun} {intransitive} {preposition} {placed} until {month}.",
)
PARTS: dict[str, tuple[str, ...]] = {
    "noun": (
        "the {person}", "the {adjective} {person}", "{possessive} {animal}", "the {colour} {thing}", "this {thing}",
        "{possessive} {thing}", "the {animal}", "a {adjective} {animal}", "the {thing}", "{name}", "some {food}",
        "{possessive} {person}", "the {person} from {town}", "the {abstract}", "that {abstract}",
    ),
    "placed": ("the {place}", "the {adjective} {place}", "{possessive} {place}", "the {place} of {town}"),
    "count": ("{number}", "{tens} {digit}", "{digit} hundred", "{digit} thousand {number}", "{number}"),
}  # fmt: skip
BARE = ("person", "animal", "thing", "food", "place", "abstract", "adjective", "transitive", "base", "adverb", "number")
SHARE_OF_BARE = 0.15
LONGEST_BARE = 9

_SLOT = re.compile(r"\{(\w+)\}")


def sentence(rng: np.random.Generator) -> str:
    """Return a random sentence, capitalized and punctuated."""
    if rng.random() < SHARE_OF_BARE:
        count = rng.integers(2, LONGEST_BARE)
        text = " ".join(_word(str(rng.choice(BARE)), rng) for _ in range(count)) + "."
    else:
        text = _fill(TEMPLATES[rng.integers(len(TEMPLATES))], rng)
    text = re.sub(r"\ba (?=[aeiou]|hon|hour)", "an ", text)
    return text[0].upper() + text[1:]


def _fill(template: str, rng: np.random.Generator) -> str:
    return _SLOT.sub(lambda slot: _word(slot[1], rng), template)


def _word(slot: str, rng: np.random.Generator) -> str:
    if slot in PARTS:
        return _fill(PARTS[slot][rng.integers(len(PARTS[slot]))], rng)
    return WORDS[slot][rng.integers(len(WORDS[slot]))]
