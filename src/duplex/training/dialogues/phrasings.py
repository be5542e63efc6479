"""How users put what they say: a topic's templates for training, and others that are kept for testing, whole.

They are written in ``phrasings.toml``.
"""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
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


def _read() -> dict[str, Phrasings]:
    topics = tomllib.loads(files("duplex.training.dialogues").joinpath("phrasings.toml").read_text(encoding="utf-8"))
    return {topic: Phrasings(tuple(uses["training"]), tuple(uses["testing"])) for topic, uses in topics.items()}


PHRASINGS: Mapping[str, Phrasings] = _read()
"""The templates of every topic."""
