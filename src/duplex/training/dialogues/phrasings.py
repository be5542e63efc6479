"""Phrasings of users' questions: templates of each topic, with separate ones for training and for testing.

They are in ``phrasings.toml``.
"""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Literal

import attrs
import numpy as np

__all__ = ["PHRASINGS", "Phrasings", "Split"]

Split = Literal["training", "testing"]


@attrs.frozen
class Phrasings:
    """The templates of one topic's questions, by split."""

    training: tuple[str, ...]
    testing: tuple[str, ...]

    def draw(self, split: Split, rng: np.random.Generator) -> str:
        """Return a random template of a split."""
        templates = self.training if split == "training" else self.testing
        return templates[rng.integers(len(templates))]


def _read() -> dict[str, Phrasings]:
    topics = tomllib.loads(files("duplex.training.dialogues").joinpath("phrasings.toml").read_text(encoding="utf-8"))
    return {topic: Phrasings(tuple(uses["training"]), tuple(uses["testing"])) for topic, uses in topics.items()}


PHRASINGS: Mapping[str, Phrasings] = _read()
"""The templates of every topic."""
