"""A text that is being said as bytes: the slot's state, what is left of the text, and what has not been told yet.

The bytes are those of a saved conversation whose session is a speech: JSON, and the sound that nobody has taken.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.backends.shared.script_state import AT
from duplex.backends.shared.snapshots import SCRIPT
from duplex.conversation.saved import SavedConversation
from duplex.errors import StateError, UsageError
from duplex.frame_model import OPTIONS_KEY, SessionState
from duplex.options import SessionOptions
from duplex.parsing import parse_json
from duplex.synthesis.script import Entry

__all__ = ["SavedSpeech", "SavedText"]

_JSON, _PCM = "speech", "speech_pcm"
MOST = 1 << 40
"""Of whatever is counted."""


@attrs.frozen
class SavedText:
    """What has not been read of a text: of a turn what is held back and what follows, and the other turns."""

    speaker: int
    held: str
    rest: str
    turns: tuple[tuple[int, str], ...]
    more: bool
    """Whether more may come, as of a text that comes in pieces."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, without what is no letter."""
        turns = [[speaker, _letters(text)] for speaker, text in self.turns]
        return attrs.asdict(self) | {"held": _letters(self.held), "rest": _letters(self.rest), "turns": turns}

    @classmethod
    def from_json(cls, given: Any) -> Self:
        """Read what :meth:`as_json` wrote.

        :raises KeyError, TypeError, ValueError: if it is damaged
        """
        turns = tuple((_count(speaker), _text(text)) for speaker, text in given["turns"])
        return cls(_count(given["speaker"]), _text(given["held"]), _text(given["rest"]), turns, given["more"] is True)


@attrs.frozen(eq=False)
class SavedSpeech:
    """How far a text has been said."""

    text: SavedText
    entries: Sequence[Entry]
    """That the model has, and has not taken."""
    later: Sequence[Entry]
    """That have been read, and not been given to it."""
    words: Sequence[str]
    """That it has, and has not begun."""
    progress: tuple[int, int, int]
    complete: bool
    last_speaker: int | None
    left_out: str | None
    imitated: int
    step: int
    frames: int
    told: Sequence[tuple[float, str | None]]
    """Events that nobody has taken: when, and the word, or ``None`` for sound."""
    pcm: NDArray[np.float32]
    """Of the latter, ``[n, frame_size]``."""
    options: SessionOptions

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Return it as the tensors of a session."""
        values = attrs.asdict(self, recurse=False, filter=lambda field, _: field.name not in ("text", "pcm", "options"))
        values |= {name: [attrs.astuple(entry) for entry in values[name]] for name in ("entries", "later")}
        values |= {"text": self.text.as_json(), "words": [_letters(word) for word in self.words]}
        values["left_out"] = None if self.left_out is None else _letters(self.left_out)
        data = json.dumps(values, default=list).encode()
        return {_JSON: np.frombuffer(data, np.uint8), _PCM: self.pcm}

    @classmethod
    def of(cls, saved: SavedConversation, frame_size: int) -> Self:
        """Read what a saved speech says.

        :raises StateError: if it is none, or damaged
        """
        try:
            return cls._read(saved.session, saved.slot, frame_size)
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise StateError(f"this is no saved speech, or a damaged one ({error}); export it anew") from error

    @classmethod
    def _read(cls, session: Mapping[str, NDArray[np.generic]], slot: SessionState, frame_size: int) -> Self:
        values, pcm = parse_json(session[_JSON].tobytes()), session[_PCM]
        entries_taken, words_begun, end = (int(number) for number in values["progress"])
        made = cls(
            text=SavedText.from_json(values["text"]),
            entries=[_entry(each) for each in values["entries"]],
            later=[_entry(each) for each in values["later"]],
            words=[_text(word) for word in values["words"]],
            progress=(entries_taken, words_begun, end),
            complete=values["complete"] is True,
            last_speaker=None if values["last_speaker"] is None else _count(values["last_speaker"]) % 2,
            left_out=None if values["left_out"] is None else _text(values["left_out"]),
            imitated=_count(values["imitated"]),
            step=_count(values["step"] + 1) - 1,
            frames=_count(values["frames"]),
            told=[(_seconds(at), None if word is None else _text(word)) for at, word in values["told"]],
            pcm=cast("NDArray[np.float32]", pcm),
            options=SessionOptions(**parse_json(slot.metadata[OPTIONS_KEY])),
        )
        sounds = sum(word is None for _, word in made.told)
        if pcm.dtype != np.float32 or pcm.shape != (sounds, frame_size) or not np.isfinite(made.pcm).all():
            raise ValueError("its sound is of another form")
        made.check(slot)
        return made

    def check(self, slot: SessionState) -> None:
        """Check that what is left of the text is what the model has of it.

        :raises KeyError, ValueError: if not
        """
        numbers = np.asarray(slot.tensors[f"{SCRIPT}numbers"]).reshape(-1)
        taken, begun, end = self.progress
        given = {"next": taken, "entries": taken + len(self.entries), "word": begun, "end": end}
        given["words"] = begun + len(self.words)
        if any(int(numbers[AT[name]]) != value for name, value in given.items()):
            raise ValueError("its text is not what the model has of it")


def _entry(given: Any) -> Entry:
    tokens, text, padding = given
    return Entry(tuple(_count(token) for token in tokens), _text(text), _count(padding))


def _count(number: Any) -> int:
    if type(number) is not int or not 0 <= number <= MOST:
        raise ValueError("a number is out of range")
    return number


def _seconds(number: Any) -> float:
    if not isinstance(number, int | float) or not 0 <= number <= MOST:
        raise ValueError("a time is out of range")
    return float(number)


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError("a text is none")
    return text


def _letters(text: str) -> str:
    """Return a text without what no letter is, of which nothing is said anyway."""
    return text.encode("utf-8", "ignore").decode()
