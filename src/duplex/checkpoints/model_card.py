"""What a checkpoint's model card (``README.md``) says for programs: what one may say to the model.

The card's metadata are those of the Hugging Face hub, a YAML block at its beginning, where ``widget`` lists examples:

    ---
    widget:
      - text: What is the capital of France?
    ---

A card is written for people and by hand: one that cannot be read has no examples, and never keeps a model from loading.
"""

import importlib
import re
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from duplex.checkpoints.sources import CheckpointSource
from duplex.errors import CheckpointError

__all__ = ["CARD", "ModelCard"]

CARD = "README.md"
METADATA = re.compile(r"\s*---\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
"""As the hub finds them; its own reader takes longer to import than the built-in model to load."""
MAX_CARD_BYTES = 1_000_000
MAX_EXAMPLES = 6
"""More than anybody reads before a conversation."""
MAX_EXAMPLE_CHARACTERS = 120
"""Longer ones are left out: nobody says them."""


class ModelCard:
    """The model card of a checkpoint; it is read, and downloaded, when it is first asked."""

    def __init__(self, source: CheckpointSource | None) -> None:
        self._source = source

    @cached_property
    def examples(self) -> tuple[str, ...]:
        """What one may say to the model, in its own language; empty if the card does not tell."""
        try:
            if self._source is None or not self._source.has(CARD):
                return ()
            found = _metadata(self._source.fetch(CARD)).get("widget")
        except (CheckpointError, OSError):
            return ()
        listed = cast("list[Any]", found) if isinstance(found, list) else []
        return tuple(text for each in listed if (text := _example(each)))[:MAX_EXAMPLES]


def _metadata(card: Path) -> dict[str, Any]:
    """Return the metadata of a card; none if there are none, or they cannot be read."""
    if card.stat().st_size > MAX_CARD_BYTES:
        return {}
    yaml: Any = importlib.import_module("yaml")  # it has no types
    try:
        block = METADATA.match(card.read_text(encoding="utf-8-sig"))
        found: Any = None if block is None else yaml.safe_load(block[1])
    except Exception:  # noqa: BLE001 -- whatever is wrong with a text for people
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _example(listed: object) -> str:
    """Return one example on one line, or "" if it is none."""
    text = cast("dict[str, Any]", listed).get("text") if isinstance(listed, dict) else None
    line = " ".join(text.split()) if isinstance(text, str) else ""
    return line if len(line) <= MAX_EXAMPLE_CHARACTERS and line.isprintable() else ""
