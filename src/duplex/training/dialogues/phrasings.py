"""How users put what they say: a topic's templates for training, and others that are kept for testing, whole.

A vertical bar in a template marks where a user may pause to think.
"""

from collections.abc import Mapping
from typing import Literal

import attrs
import numpy as np

__all__ = ["PHRASINGS", "Phrasings", "Use"]

Use = Literal["training", "testing"]


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
        (
            "Hello.",
            "Hi.",
            "Hello there.",
            "Good morning.",
            "Hey, how are you?",
            "Good evening.",
            "Hi, how are you?",
            "Hey there.",
            "Hello, hello.",
            "Good day.",
            "How are you doing?",
            "How are you today?",
        ),
        ("Hello, how are you?", "Hi there.", "Good afternoon."),
    ),
    "goodbye": Phrasings(
        (
            "Goodbye.",
            "Bye bye.",
            "See you later.",
            "Thank you, goodbye.",
            "Okay, bye.",
            "I have to go now.",
            "Bye, have a nice day.",
            "Well, goodbye then.",
            "Bye for now.",
            "See you tomorrow, bye.",
            "That is all, goodbye.",
        ),
        ("Bye.", "Goodbye, see you later.", "Thanks, bye bye."),
    ),
    "thanks": Phrasings(
        (
            "Thank you.",
            "Thanks a lot.",
            "Thank you very much.",
            "Thank you so much.",
            "Okay, thanks.",
            "Great, thank you.",
        ),
        ("Thanks.", "Many thanks."),
    ),
    "identity": Phrasings(
        (
            "Who are you?",
            "What is your name?",
            "What are you called?",
            "Tell me | who you are.",
            "Who is this?",
            "What do they call you?",
            "So who are you?",
            "And what is your name?",
            "Please say | your name.",
            "Who am I | talking to?",
            "Can you tell me | who you are?",
        ),
        ("What's your name?", "Tell me your name.", "Please tell me | who you are."),
    ),
    "ability": Phrasings(
        (
            "What can you do?",
            "What do you know?",
            "How can you help me?",
            "What can I | ask you?",
            "So what can you do?",
            "What are you able to do?",
            "What are you good at?",
            "Please tell me | what you know.",
            "What can you do for me?",
        ),
        ("Tell me | what you can do.", "What things can you do?"),
    ),
    "tell name": Phrasings(
        (
            "My name is | {name}.",
            "I am | {name}.",
            "Hello, my name is {name}.",
            "Call me {name}.",
            "I'm {name}.",
            "Hi, my name is | {name}.",
            "Hello, I'm {name}.",
            "My name's {name}.",
            "Please call me | {name}.",
            "You may call me {name}.",
            "By the way, | I am {name}.",
            "The name is {name}.",
        ),
        ("Hi, I am {name}.", "You can | call me {name}.", "Well, my name is {name}."),
    ),
    "ask name": Phrasings(
        (
            "What is my name?",
            "Do you remember | my name?",
            "Who am I?",
            "Tell me my name.",
            "What am I called?",
            "So what's my name?",
            "Please say my name.",
            "Do you still know | what my name is?",
            "And what is my name?",
            "Can you remember my name?",
        ),
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
            "So what's | {a} plus {b}?",
            "{a} and {b}?",
            "What is the sum of | {a} and {b}?",
            "Can you tell me | what {a} plus {b} is?",
            "Now {a} plus {b}.",
            "How much are {a} and {b}?",
            "Please add | {a} and {b}.",
            "Do you know | how much {a} plus {b} is?",
            "And {a} plus {b}?",
            "What does {a} plus {b} make?",
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
            "So what's | {a} minus {b}?",
            "Can you tell me | what {a} minus {b} is?",
            "Now {a} minus {b}.",
            "How much are {a} minus {b}?",
            "Subtract {b} | from {a}.",
            "Do you know | how much {a} minus {b} is?",
            "And {a} minus {b}?",
            "What does {a} minus {b} make?",
        ),
        ("What's {a} minus {b}?", "Please tell me | how much is {a} minus {b}."),
    ),
    "after": Phrasings(
        (
            "What comes | after {it}?",
            "Which {kind} comes | after {it}?",
            "What {kind} is after {it}?",
            "Do you know | what comes after {it}?",
            "What's after {it}?",
            "And after {it}?",
            "Tell me | the {kind} after {it}.",
            "What is the {kind} | after {it}?",
            "What follows {it}?",
        ),
        ("What {kind} comes after {it}?", "Tell me | what comes after {it}."),
    ),
    "before": Phrasings(
        (
            "What comes | before {it}?",
            "Which {kind} comes | before {it}?",
            "What {kind} is before {it}?",
            "Do you know | what comes before {it}?",
            "What's before {it}?",
            "And before {it}?",
            "Tell me | the {kind} before {it}.",
            "What is the {kind} | before {it}?",
        ),
        ("What {kind} comes before {it}?", "Tell me | what comes before {it}."),
    ),
    "colour": Phrasings(
        (
            "What colour is | {it}?",
            "Which colour is {it}?",
            "Tell me | the colour of {it}.",
            "What colour has {it}?",
            "So what colour is {it}?",
            "What's the colour | of {it}?",
            "Can you tell me | what colour {it} is?",
            "And {it}, what colour is that?",
            "Please tell me | the colour of {it}.",
            "What colour do you think {it} is?",
            "Do you know | the colour of {it}?",
        ),
        ("What is | the colour of {it}?", "Do you know | what colour {it} is?"),
    ),
    "opposite": Phrasings(
        (
            "What is | the opposite of {it}?",
            "The opposite of {it}?",
            "Tell me | the opposite of {it}.",
            "What is the contrary of {it}?",
            "So what's | the opposite of {it}?",
            "Can you tell me | the opposite of {it}?",
            "And the opposite of {it}?",
            "What would be | the opposite of {it}?",
            "Please tell me | the opposite of {it}.",
            "Give me the opposite of {it}.",
            "Which word is | the opposite of {it}?",
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
            "So what's the capital of {it}?",
            "And the capital of {it}?",
            "Please tell me | the capital of {it}.",
            "Give me the capital of {it}.",
            "What city is | the capital of {it}?",
            "Tell me what | the capital of {it} is.",
            "Hey, what is the capital of {it}?",
        ),
        ("What's the capital of {it}?", "Can you tell me | the capital of {it}?", "Name the capital of {it}."),
    ),
    "count": Phrasings(
        (
            "Count to {n}.",
            "Please count | to {n}.",
            "Can you count to {n}?",
            "Count from one | to {n}.",
            "Now count to {n}.",
            "I want you to count | to {n}.",
            "Would you count to {n}, please?",
            "Start counting, | up to {n}.",
            "Count up to {n}.",
        ),
        ("Could you | count to {n}?", "Let me hear you count to {n}."),
    ),
    "repeat": Phrasings(
        (
            "Repeat after me, | {phrase}.",
            "Say {phrase}.",
            "Repeat {phrase}.",
            "Please say | {phrase}.",
            "Can you repeat | {phrase}?",
            "Now say {phrase}.",
            "Say after me, | {phrase}.",
            "Would you say {phrase}?",
            "Could you repeat {phrase}?",
        ),
        ("Can you say | {phrase}?", "Please repeat {phrase}."),
    ),
    "joke": Phrasings(
        (
            "Tell me a joke.",
            "Do you know a joke?",
            "Make me laugh.",
            "Please tell me | a joke.",
            "Do you know any jokes?",
            "Tell me another joke.",
            "I would like | a joke.",
            "Say something funny.",
            "Let me hear a joke.",
            "Could you tell me | a joke?",
        ),
        ("Can you tell me a joke?", "I want to hear | a joke."),
    ),
    "unknown": Phrasings(("{sentence}",), ("{sentence}",)),
}
