"""When each word of a text is said: the state machine of one session, as published for delayed streams.

The model samples 0 (a word begins) or 3 (padding) at each step; anything else counts as 3. What is done with it:

==================================  ====================  ==============================================
condition, the first that holds     the sample becomes    and then
==================================  ====================  ==============================================
tokens of a word are still queued   3
``forced`` padding is left          3
no ``remaining`` padding is left    0
0, and the next entry is a word     0                     queue its tokens, and those of the word ahead;
                                                          ``remaining`` = ``max_padding``
0, and the next entry is a break    3
0, and no entry is left, first      0 (3 without a        ``end_step`` = this step
time                                second stream)
0, and no entry is left, later      3
==================================  ====================  ==============================================

``forced`` becomes the padding of an entry when it is taken. A 3 takes one from either padding and gives the next queued
token, or 3. With a second stream a 0, also one among a word's tokens, moves there, and the first stream gives the next
queued token or 3; else the second gives the next token of the word ahead, or nothing. Both are one number:
(second + 1) * vocabulary + first.
"""

from collections import deque
from collections.abc import Iterable

import attrs

from duplex.synthesis.script import Entry

__all__ = ["NEW_WORD", "PADDING", "MachineSettings", "TextMachine"]

NEW_WORD = 0
PADDING = 3


@attrs.frozen(kw_only=True)
class MachineSettings:
    """What a checkpoint says of its text: ``vocabulary`` is ``text_card + 1``; ``ahead`` is in words, 0 for none."""

    vocabulary: int
    ahead: int = 2
    max_padding: int = 8
    initial_padding: int = 2
    final_padding: int = 4
    delay_steps: int = 16


@attrs.define
class TextMachine:
    """One session's text. ``taken`` are the steps at which entries were taken, ``words`` each word and its step."""

    settings: MachineSettings
    entries: deque[Entry] = attrs.field(factory=deque[Entry])
    taken: list[int] = attrs.field(factory=list[int])
    words: list[tuple[str, int]] = attrs.field(factory=list[tuple[str, int]])
    end_step: int | None = None
    complete: bool = False
    """Whether no more text will come."""
    _queued: deque[int] = attrs.field(factory=deque[int], init=False)
    _ahead: deque[int] = attrs.field(factory=deque[int], init=False)
    _remaining: int = attrs.field(init=False)
    _forced: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Begin with the initial padding."""
        self._remaining = self._forced = self.settings.initial_padding

    def say(self, entries: Iterable[Entry]) -> None:
        """Add to what is to be said."""
        self.entries.extend(entries)

    @property
    def ready(self) -> bool:
        """Whether a step may run: the words that it looks ahead to are there, all text is in, or a break is next."""
        if self.complete or (self.entries and not self.entries[0].tokens):
            return True
        return sum(bool(entry.tokens) for entry in self.entries) > self.settings.ahead

    @property
    def last_step(self) -> int | None:
        """The number of steps after which the audio of all that was said is out, once that is known."""
        if self.end_step is None:
            return None
        return self.end_step + self.settings.delay_steps + self.settings.final_padding

    def feed(self, step: int, sampled: int) -> int:
        """Return the text token that the model reads for the one that it sampled at ``step``."""
        token = self._taken(step, self._allowed(sampled))
        if token == PADDING:
            self._remaining = max(0, self._remaining - 1)
            self._forced = max(0, self._forced - 1)
            first = self._queued.popleft() if self._queued else PADDING
        else:
            first = token
        if not self.settings.ahead:
            return first
        if first == NEW_WORD:  # an unknown piece of a word is number 0 too, and is moved as published
            second = NEW_WORD
            first = self._queued.popleft() if self._queued else PADDING
        else:
            second = self._ahead.popleft() if self._ahead else -1
        return (second + 1) * self.settings.vocabulary + first

    def _allowed(self, sampled: int) -> int:
        if self._queued or self._forced > 0:
            return PADDING
        return NEW_WORD if sampled == NEW_WORD or self._remaining <= 0 else PADDING

    def _taken(self, step: int, token: int) -> int:
        """Take the next entry on a new word, and return the token that stands."""
        if token != NEW_WORD:
            return PADDING
        if not self.entries:
            first, self.end_step = self.end_step is None, step if self.end_step is None else self.end_step
            return NEW_WORD if first and self.settings.ahead else PADDING
        entry = self.entries.popleft()
        self.taken.append(step)
        self._forced = entry.padding
        if not entry.tokens:
            return PADDING
        self.words.append((entry.text, step))
        self._queued.extend(entry.tokens)
        self._ahead.extend(self._word_ahead())
        self._remaining = self.settings.max_padding
        return NEW_WORD

    def _word_ahead(self) -> tuple[int, ...]:
        words = [entry.tokens for entry in self.entries if entry.tokens]
        ahead = self.settings.ahead
        return words[ahead - 1] if 0 < ahead <= len(words) else ()
