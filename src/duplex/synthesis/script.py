"""Turns text into entries: words with their tokens, and breaks.

========================  ==================================================================
in the text               what becomes of it
========================  ==================================================================
U+2019                    an apostrophe
``:``                     a space
``(`` and ``)``           nothing
white space               ends a word; each word is tokenized by itself
``<break time="0.4s"/>``  an entry without tokens, silent for so long, rounded to frames
a change of the speaker   token 1 (the first speaker) or 2 (the other) before the first word
a word in other letters   nothing, if the tokenizer knows none of them; else its pieces, the
                          unknown ones as token 0, as published
========================  ==================================================================

Turns alternate between two speakers. A model that knows one speaker gets no speaker's tokens.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs

from duplex.errors import UsageError

__all__ = ["BETWEEN_WORDS", "Encoder", "Entry", "ScriptReader", "read_script"]

SPEAKERS = (1, 2)
"""The tokens of the first speaker and of the other."""

_SPOKEN = str.maketrans({"\u2019": "'", ":": " ", "(": None, ")": None})
UNKNOWN = 0
"""The token of what a tokenizer has no piece for."""
MAX_BREAK_SECONDS = 60.0
_UNKNOWN_LETTER = "\ue000"
"""Of private use, which no text was trained on."""
BETWEEN_WORDS: re.Pattern[str] = re.compile(r'<break\s+time="([0-9]+(?:\.[0-9]*)?)s"\s*/?>|\s+')


class Encoder(Protocol):
    """What turns a word into tokens, as :class:`duplex.checkpoints.tokenizer.Tokenizer` does."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        ...


@attrs.frozen
class Entry:
    """A word, or a break if it has no tokens. ``padding`` is how many frames must pass before the next entry."""

    tokens: tuple[int, ...]
    text: str
    padding: int


@attrs.define
class ScriptReader:
    """Reads a session's turns one after the other, and remembers who spoke last, and the first word that it left out.

    ``frame_rate`` is in frames a second; ``padding_between`` is the least padding after a word of one token, 0 for
    none; ``speakers`` says whether the model is told who speaks.
    """

    tokenizer: Encoder
    frame_rate: float
    speakers: bool = True
    padding_between: int = 1
    left_out: str | None = attrs.field(default=None, init=False)
    last: int | None = attrs.field(default=None, init=False)
    """Who spoke last."""
    _unknown: frozenset[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Find out which tokens make up a word of unknown letters alone: a piece for its beginning may be one."""
        self._unknown = frozenset(self.tokenizer.encode(_UNKNOWN_LETTER))

    def turn(self, text: str, speaker: int = 0) -> list[Entry]:
        """Return the entries of one turn; ``speaker`` 0 is the first, 1 the other. Nothing to say is no entry.

        :raises UsageError: if a break is longer than a minute
        """
        entries: list[Entry] = []
        spoken, start = text.encode("utf-8", "ignore").decode().translate(_SPOKEN), 0
        for found in [*BETWEEN_WORDS.finditer(spoken), None]:
            end = len(spoken) if found is None else found.start()
            if start < end:
                entries += self._word(spoken[start:end], speaker)
            if found is not None and found.group(1):
                entries.append(Entry((), "", self._break(float(found.group(1)))))
            start = end if found is None else found.end()
        return entries

    def _break(self, seconds: float) -> int:
        if seconds > MAX_BREAK_SECONDS:
            raise UsageError(f"a break of the text is {seconds:g} s; give one of at most {MAX_BREAK_SECONDS:g} s")
        return round(seconds * self.frame_rate)

    def _word(self, word: str, speaker: int) -> list[Entry]:
        tokens = self.tokenizer.encode(word)
        if not tokens or (UNKNOWN in tokens and self._unknown.issuperset(tokens)):
            self.left_out = self.left_out or word
            return []
        if self.speakers and speaker != self.last:
            tokens = [SPEAKERS[speaker], *tokens]
            self.last = speaker
        padding = max(0, self.padding_between + len(tokens) - 1) if self.padding_between > 0 else 0
        return [Entry(tuple(tokens), word, padding)]


def read_script(turns: Iterable[str], reader: ScriptReader) -> Sequence[Entry]:
    """Return the entries of turns that two speakers take by turns."""
    return [entry for number, text in enumerate(turns) for entry in reader.turn(text, number % len(SPEAKERS))]
