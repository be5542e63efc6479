"""What the agent said, word by word with times, and what the user said.

Rules of the agent's:

- A space at the front of a piece begins a word. So does the first piece of all, and the first after padding: languages
  written without spaces are cut where the agent pauses.
- A word ends where the next begins, or at the next padding or end-of-padding.
- A token that gives no text and is neither (a control piece, the first bytes of a character) changes nothing.
"""

import re
from typing import TypedDict

import attrs

__all__ = ["Chunk", "Transcript", "TranscriptJson", "UserTranscript"]

DIGITS = 3
"""Times are written in whole milliseconds, so that 3 * 0.08 is 0.24."""


class Chunk(TypedDict):
    """One word and its ``[start, end]`` in seconds."""

    text: str
    timestamp: list[float]


class TranscriptJson(TypedDict):
    """The whole transcript, in the shape of Hugging Face's speech recognition with ``return_timestamps="word"``."""

    text: str
    chunks: list[Chunk]


@attrs.define
class _Word:
    text: str
    start: float
    end: float | None = None


class Transcript:
    """Builds the words of one conversation's agent. ``frame_duration`` is in seconds."""

    def __init__(self, padding: int, end_of_padding: int, frame_duration: float) -> None:
        self._boundaries = frozenset((padding, end_of_padding))
        self._frame_duration = frame_duration
        self._text: list[str] = []
        self._words: list[_Word] = []
        self._now = 0.0

    def feed(self, token: int, piece_text: str, at: float) -> None:
        """Take the token of the frame that starts ``at`` seconds, and the text that it completed, if any."""
        self._now = at + self._frame_duration
        if token in self._boundaries:
            self._end_word(at)
            return
        self._text.append(piece_text)
        # One token may complete more than one piece's text: U+FFFD for a broken character, then a new word.
        for part in re.split("(?= )", piece_text):
            if part.startswith(" "):
                self._end_word(at)
            if self._open_word is not None:
                self._open_word.text += part.strip()
            elif part.strip() or part.startswith(" "):
                self._words.append(_Word(part.strip(), at))

    def finish(self, at: float) -> None:
        """End the last word: the conversation is over after ``at`` seconds."""
        self._now = at
        self._end_word(at)

    def as_json(self) -> TranscriptJson:
        """Return the transcript so far. A word that has not ended ends with the last frame."""
        chunks: list[Chunk] = [
            {
                "text": word.text,
                "timestamp": [round(word.start, DIGITS), round(self._now if word.end is None else word.end, DIGITS)],
            }
            for word in self._words
            if word.text
        ]
        return {"text": " ".join("".join(self._text).split()), "chunks": chunks}

    @property
    def _open_word(self) -> _Word | None:
        """The word that is being spoken."""
        return self._words[-1] if self._words and self._words[-1].end is None else None

    def _end_word(self, at: float) -> None:
        if self._open_word is not None:
            # Two words may begin within one frame, when the second follows a broken character.
            self._open_word.end = max(at, self._open_word.start)


class UserTranscript:
    """Gathers the words of one conversation's user, from its ``UserText`` events."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []

    def feed(self, text: str, start: float, end: float) -> None:
        """Take a word, from ``start`` to ``end`` seconds."""
        self._chunks.append({"text": text, "timestamp": [round(start, DIGITS), round(end, DIGITS)]})

    def as_json(self) -> TranscriptJson:
        """Return the transcript so far."""
        return {"text": " ".join(chunk["text"] for chunk in self._chunks), "chunks": list(self._chunks)}
