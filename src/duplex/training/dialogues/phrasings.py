"""Phrasings of users' questions: templates of each topic, with separate ones for training and for testing.

They are in ``phrasings.toml``. What is in square brackets, parted by slashes, are alternatives, one of which is drawn:
``[Okay, /]bye[ then/ now].`` has four phrasings. So words are heard in many places and not as parts of one sentence
that is known by heart.
"""

import math
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["PHRASINGS", "Phrasings", "Split"]

Split = Literal["training", "testing"]
ALTERNATIVES = re.compile(r"\[([^]]*)]")
PREFIXES = (
    "Okay, ", "Well, ", "So, ", "Now, ", "Hey, ", "Oh, ", "Um, ", "Right, ", "Duplex, ", "Hey Duplex, ", "All right, ",
    "Yes, ", "No, ", "Good, ", "And ",
)  # fmt: skip
"""What may stand before whatever is said."""
SHARE_OF_PREFIXES = 0.2
MOST = 8
"""A template is drawn at most so many times as often as one with a single phrasing."""
ANYTHING = "{sentence}"
"""The template of what is about none of the topics."""
NAMED = re.compile(r"I\b|Duplex|\{")
"""Beginnings that keep their case behind a prefix."""


@attrs.frozen(slots=False)
class Phrasings:
    """The templates of one topic's questions, by split; in training some have a word before them."""

    training: tuple[str, ...]
    testing: tuple[str, ...]

    def draw(self, split: Split, rng: np.random.Generator) -> str:
        """Return a random phrasing of a split; none of testing's is ever one of training."""
        if split == "testing":
            return self.testing[rng.integers(len(self.testing))]
        while True:
            template = self.training[rng.choice(len(self.training), p=self._shares)]
            drawn = ALTERNATIVES.sub(lambda found: _one_of(found[1].split("/"), rng), template)
            if rng.random() < SHARE_OF_PREFIXES and not drawn.startswith((ANYTHING, *PREFIXES)):
                drawn = _one_of(PREFIXES, rng) + (drawn if NAMED.match(drawn) else drawn[0].lower() + drawn[1:])
            if _words(drawn) not in self._kept_out:
                return drawn

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        """How often each template of training is drawn: more often, if it has many phrasings."""
        counts = [
            min(MOST, math.prod(found.count("/") + 1 for found in ALTERNATIVES.findall(t))) for t in self.training
        ]
        return np.array(counts) / sum(counts)

    @cached_property
    def _kept_out(self) -> set[str]:
        return {_words(template) for template in self.testing if template not in self.training}


def _one_of(alternatives: "list[str] | tuple[str, ...]", rng: np.random.Generator) -> str:
    return alternatives[int(rng.integers(len(alternatives)))]


def _words(phrasing: str) -> str:
    """Return what is spoken of a phrasing, for which marks and pauses make no difference."""
    return " ".join(re.sub(r"[^\w{}' ]", " ", phrasing.lower()).split())


def _read() -> dict[str, Phrasings]:
    topics = tomllib.loads(files("duplex.training.dialogues").joinpath("phrasings.toml").read_text(encoding="utf-8"))
    return {topic: Phrasings(tuple(uses["training"]), tuple(uses["testing"])) for topic, uses in topics.items()}


PHRASINGS: Mapping[str, Phrasings] = _read()
"""The templates of every topic."""
