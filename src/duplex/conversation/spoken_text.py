"""A text that is being said: its pieces as they come, and what of it the model has been given and has said."""

import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from typing import Any, TypeAlias, cast

import attrs

from duplex.conversation.saved_speech import SavedText
from duplex.engine.outcomes import ScriptProgress
from duplex.errors import UsageError
from duplex.synthesis.script import BETWEEN_WORDS, Entry

__all__ = ["NEVER", "Pieces", "SpokenText", "Text"]

NEVER = -1
MAX_ENTRIES, MAX_TOKENS, MAX_WORD_TOKENS = 256, 2048, 512
"""What a model is given of a text at a time: it holds some thousand."""
MAX_WORD = 1 << 14
"""Letters that may come without an end of the word."""
BITE = 1 << 10
"""Letters of a whole text that are read at a time."""
_BEGUN_BREAK = re.compile(r"<(?:b(?:r(?:e(?:a(?:k(?:\s[^<>]{0,40})?)?)?)?)?)?\Z")
"""What may become a break when more comes: it has spaces in it."""
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
    """A text in pieces that end between words, each with the number of its speaker.

    :raises UsageError: if it is no text
    """

    def __init__(self, text: Text, saved: SavedText | None = None) -> None:
        """Begin with what was ``saved`` of a text, if it was; the text is then what comes after it."""
        self._source: AsyncIterator[str] | None = aiter(text) if isinstance(text, AsyncIterable) else None
        kind = type(text).__name__
        turns: Any = [text] if isinstance(text, str) else [""] if isinstance(text, AsyncIterable) else text
        if not isinstance(turns, Sequence) or isinstance(turns, bytes | bytearray | memoryview):
            raise UsageError(
                f"the text is {kind}; give a string, a list of turns, or an asynchronous iterator of strings"
            )
        self._turns = deque(enumerate(map(_checked, cast("Sequence[object]", turns))))
        self._speaker, self._rest = self._turns.popleft() if self._turns else (0, "")
        self._held = ""
        if saved is not None:
            self._go_on(saved)

    def saved(self) -> SavedText:
        """Return what has not been read."""
        return SavedText(self._speaker, self._held, self._rest, tuple(self._turns), more=self._source is not None)

    def _go_on(self, saved: SavedText) -> None:
        """Put what was saved before the text.

        :raises UsageError: if there is a text, though the one that was saved is whole
        """
        if not saved.more:
            if self._source is not None or self._rest or self._turns:
                raise UsageError("the saved text is whole, and goes on by itself; leave the text out")
            self._turns, self._rest = deque(saved.turns), saved.rest
        self._speaker, self._held = saved.speaker, saved.held

    async def next(self) -> tuple[int, str] | None:
        """Return the next piece; ``None`` after the last. What the text itself raises is raised.

        :raises UsageError: if a piece is no string, or a word has no end
        """
        while True:
            cut = _cut(self._held)
            if not cut:
                more = await self._more()
                if more is not None:
                    self._held += more
                    continue
                if not self._held and not self._turns:
                    return None
                cut = len(self._held)
            speaker, piece, self._held = self._speaker % 2, self._held[:cut], self._held[cut:]
            if not self._held and not self._rest and self._source is None and self._turns:
                self._speaker, self._rest = self._turns.popleft()
            if piece:
                return speaker, piece

    async def aclose(self) -> None:
        """Close the text's source, if it is an asynchronous generator: nobody else would."""
        source, self._source = self._source, None
        if isinstance(source, AsyncGenerator):
            await source.aclose()

    async def _more(self) -> str | None:
        """Return what comes next of the turn, ``None`` at its end."""
        if len(self._held) > MAX_WORD:
            raise UsageError(f"a word of the text has {len(self._held)} letters or more; put spaces between words")
        if self._source is not None:
            piece = await anext(self._source, None)
            if piece is None:
                self._source = None
            return None if piece is None else _checked(piece)
        piece, self._rest = self._rest[:BITE], self._rest[BITE:]
        return piece or None


def _cut(held: str) -> int:
    """Return where the last word that is known to have ended ends, 0 for nowhere."""
    begun = _BEGUN_BREAK.search(held)
    ends = [found.end() for found in BETWEEN_WORDS.finditer(held, 0, len(held) if begun is None else begun.start())]
    return ends[-1] if ends else 0


def _checked(piece: object) -> str:
    if not isinstance(piece, str):
        raise UsageError(f"a piece of the text is {type(piece).__name__}; give strings")
    return piece
