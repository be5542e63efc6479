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
========================  ==================================================================

Turns alternate between two speakers. A model that knows one speaker gets no speaker's tokens.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs

__all__ = ["Encoder", "Entry", "ScriptReader", "read_script"]

SPEAKERS = (1, 2)
"""The tokens of the first speaker and of the other."""

_SPOKEN = str.maketrans({"\u2019": "'", ":": " ", "(": None, ")": None})
_BETWEEN = re.compile(r'<break\s+time="([0-9]+(?:\.[0-9]*)?)s"\s*/?>|\s+')


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
    """Reads a session's turns one after the other, and remembers who spoke last.

    ``frame_rate`` is in frames a second; ``padding_between`` is the least padding after a word of one token, 0 for
    none; ``speakers`` says whether the model is told who speaks.
    """

    tokenizer: Encoder
    frame_rate: float
    speakers: bool = True
    padding_between: int = 1
    _last: int | None = attrs.field(default=None, init=False)

    def turn(self, text: str, speaker: int = 0) -> list[Entry]:
        """Return the entries of one turn; ``speaker`` 0 is the first, 1 the other. Nothing to say is no entry."""
        entries: list[Entry] = []
        rest = text.translate(_SPOKEN)
        while rest:
            found = _BETWEEN.search(rest)
            word, rest, pause = (
                (rest, "", None) if found is None else (rest[: found.start()], rest[found.end() :], found.group(1))
            )
            if word:
                entries.append(self._word(word, speaker))
            if pause:
                entries.append(Entry((), "", round(float(pause) * self.frame_rate)))
        return entries

    def _word(self, word: str, speaker: int) -> Entry:
        tokens = self.tokenizer.encode(word)
        if self.speakers and speaker != self._last:
            tokens = [SPEAKERS[speaker], *tokens]
            self._last = speaker
        padding = max(0, self.padding_between + len(tokens) - 1) if self.padding_between > 0 else 0
        return Entry(tuple(tokens), word, padding)


def read_script(turns: Iterable[str], reader: ScriptReader) -> Sequence[Entry]:
    """Return the entries of turns that two speakers take by turns."""
    return [entry for number, text in enumerate(turns) for entry in reader.turn(text, number % len(SPEAKERS))]
