"""A text that is being said: its pieces as they come, and what of it the model has been given and has said."""

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import TypeAlias

import attrs

from duplex.engine.outcomes import ScriptProgress
from duplex.errors import UsageError
from duplex.synthesis.script import Entry

__all__ = ["NEVER", "Pieces", "SpokenText", "Text"]

NEVER = -1
MAX_ENTRIES, MAX_TOKENS, MAX_WORD_TOKENS = 256, 2048, 512
"""What a model is given of a text at a time: it holds some thousand."""
Text: TypeAlias = str | Sequence[str] | AsyncIterable[str]


@attrs.define(eq=False)
class SpokenText:
    """What has been given to the model, and how far it has come."""

    ahead: int
    entries: list[Entry] = attrs.field(factory=list[Entry])
    words: deque[str] = attrs.field(factory=deque[str])
    """That have not begun yet."""
    progress: ScriptProgress = attrs.field(factory=lambda: ScriptProgress(0, 0, NEVER))
    later: deque[Entry] = attrs.field(factory=deque[Entry])
    """What has been read and not been given yet: the model holds a bounded part of the text."""
    complete: bool = False
    """Whether no more will be read."""

    def read(self, entries: list[Entry]) -> None:
        """Take what has been read.

        :raises UsageError: if a word has more tokens than any has
        """
        longest = max((len(entry.tokens) for entry in entries), default=0)
        if longest > MAX_WORD_TOKENS:
            raise UsageError(f"a word of the text has {longest} tokens; put spaces between words")
        self.later.extend(entries)

    def due(self) -> list[Entry]:
        """Take out what is to be given now."""
        left = self.entries[self.progress.entries :]
        room, tokens = MAX_ENTRIES - len(left), MAX_TOKENS - sum(len(entry.tokens) for entry in left)
        found: list[Entry] = []
        while self.later and room > len(found) and tokens >= len(self.later[0].tokens):
            entry = self.later.popleft()
            tokens -= len(entry.tokens)
            found.append(entry)
        return found

    def add(self, entries: list[Entry]) -> None:
        """Count what is given to the model."""
        self.entries += entries
        self.words.extend(entry.text for entry in entries if entry.tokens)

    @property
    def ready(self) -> bool:
        """Whether the next step may run."""
        left = self.entries[self.progress.entries :]
        if (self.complete and not self.later) or (left and not left[0].tokens):
            return True
        return sum(bool(entry.tokens) for entry in left) > self.ahead


class Pieces:
    """A text in pieces that end between words, each with the number of its speaker."""

    def __init__(self, text: Text) -> None:
        self._source: AsyncIterator[str] | None = aiter(text) if isinstance(text, AsyncIterable) else None
        turns: Sequence[str] = [text] if isinstance(text, str) else [] if isinstance(text, AsyncIterable) else text
        self._whole = deque((number % 2, turn) for number, turn in enumerate(turns))
        self._held = ""

    async def next(self) -> tuple[int, str] | None:
        """Return the next piece; ``None`` after the last."""
        if self._whole:
            return self._whole.popleft()
        while self._source is not None:
            piece = await anext(self._source, None)
            if piece is None:
                self._source, last = None, self._held
                return 0, last
            self._held += piece
            cut = max(self._held.rfind(" "), self._held.rfind("\n"))
            if "<" in self._held[:cut] and ">" not in self._held[self._held.rfind("<") :]:  # a break has spaces in it
                cut = self._held.rfind("<") - 1
            if cut > 0:
                whole, self._held = self._held[: cut + 1], self._held[cut + 1 :]
                return 0, whole
        return None
