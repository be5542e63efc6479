"""A file of sentences: what users say in a domain, in which voices, and what the agent answers."""

import tomllib
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np

from duplex.training.data.voices import Voice

Split = Literal["training", "testing"]


@attrs.frozen(kw_only=True)
class Turn:
    """Something that a user says, ``|`` where a pause may be, and the answer, which is right with ``key`` in it."""

    topic: str
    question: str
    answer: str
    key: str


class Sentences:
    """The sentences of a domain."""

    def __init__(self, path: Path) -> None:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        self._slots: dict[str, Any] = told["slots"]
        self._turns: dict[str, Any] = told["turns"]
        self.topics: tuple[str, ...] = tuple(self._turns)
        self.agent: Voice = _voice("agent", told["voices"]["agent"])
        self.users: list[Voice] = [_voice("user", each) for each in told["voices"]["users"]]
        self.testers: list[Voice] = [_voice("tester", each) for each in told["voices"]["testers"]]

    def draw(self, topic: str, split: Split, rng: np.random.Generator) -> Turn:
        """Return one thing that is said about a topic."""
        turn = self._turns[topic]
        phrasings = turn[split]
        words = self._words(rng)
        return Turn(
            topic=topic,
            question=phrasings[rng.integers(len(phrasings))].format_map(words),
            answer=turn["answer"].format_map(words),
            key=turn["key"].format_map(words),
        )

    def _words(self, rng: np.random.Generator) -> dict[str, str]:
        words = {name: slot[rng.integers(len(slot))] for name, slot in self._slots.items() if isinstance(slot, list)}
        return words | {name: slot[words[slot["of"]]] for name, slot in self._slots.items() if isinstance(slot, dict)}


def _voice(name: str, told: dict[str, Any]) -> Voice:
    low, high = told.get("size", (1.0, 1.0))
    return Voice(name=name, engine=told["engine"], variants=tuple(told["variants"]), size=(low, high))
