"""The words of a recognition model, from its text tokens.

The rule is the published streaming server's (that of the published example script differs: it needs all tokens, and
takes a word's time from the end-of-padding before it, several words dividing the frames between two of them):

    steps count from 1, the first that hears audio; nothing happens before step ``delay``
    end-of-padding or padding   closes the word that is open: it started at the last stop
    end-of-padding              is a stop, at (step - delay) frames; it ends the words since the last one
    any other token             belongs to the open word

Silence that was inserted after ``n`` frames of audio, to hear the last words at once, is no audio: what the model tells
of it is at ``n``, and everything after it is where it would be without.

The server sends ``Word(start)`` and, later, ``EndWord(stop)``. A word here has both at once, so as not to wait for the
next one: it ends where it was closed, which is the server's stop if end-of-padding closed it, and earlier if padding
did.
"""

from collections import deque
from collections.abc import Mapping
from itertools import pairwise

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.kind_configs import SttConfig
from duplex.checkpoints.tokenizer import StreamingDetokenizer
from duplex.engine.model import Model
from duplex.frame_model import ModelSpec
from duplex.transcription.protocol import Word

__all__ = ["EndWord", "Placement", "WordTimes", "placement_of", "words_of"]

PUBLISHED_DELAYS = {0.5: 6, 2.5: 32}
"""Frames that the published server takes for the two published delays in seconds: neither rounded up nor down."""
LONGEST_SILENCE = 1 << 20
"""Frames that a state may tell of inserted silence: a day."""


@attrs.frozen
class EndWord:
    """The words since the last one of these end, ``stop`` seconds after the beginning of what the model heard."""

    stop: float


@attrs.frozen
class Placement:
    """Where a recognition model's audio lies in what it hears: after ``lead`` samples, followed by ``flush`` frames.

    ``delay`` is by how many frames the words come late.
    """

    lead: int
    flush: int
    delay: int

    @classmethod
    def of(cls, stt: SttConfig, spec: ModelSpec) -> "Placement":
        """Return it for a model's configuration."""
        seconds = float(stt.audio_delay_seconds)
        return cls(
            lead=int(stt.audio_silence_prefix_seconds * spec.sample_rate),
            flush=int(np.ceil(seconds * spec.frame_rate)) + 1,
            delay=PUBLISHED_DELAYS.get(seconds, round(seconds * spec.frame_rate)),
        )


def placement_of(model: Model) -> Placement | None:
    """Return where the audio lies in what a recognition model hears, ``None`` for a model of another kind."""
    return None if model.stt is None or model.spec.kind != "stt" else Placement.of(model.stt, model.spec)


def words_of(model: Model, placement: Placement) -> "WordTimes":
    """Return what builds words from the tokens of one session of a recognition model."""
    spec = model.spec
    decoder = StreamingDetokenizer(model.tokenizer, spec.text_padding, spec.text_end_of_padding)
    return WordTimes(decoder, spec, placement.delay)


class WordTimes:
    """Builds words from one session's tokens, as they come. Times are seconds since the beginning of what was heard."""

    def __init__(self, decoder: StreamingDetokenizer, spec: ModelSpec, delay: int) -> None:
        self._decoder = decoder
        self._padding, self._end_of_padding = spec.text_padding, spec.text_end_of_padding
        self._spec = spec
        self._delay = delay
        self._text = ""
        self._open = self._unended = False
        self._last_stop = 0
        self._inserted: deque[tuple[int, int]] = deque()
        """Silence that was inserted, and that the model may still tell of: before which frame, and how many frames."""

    def feed(self, token: int, step: int, *, inserted: bool = False) -> list[Word | EndWord]:
        """Take the token of a step; return the word that it closes, and the stop that it is.

        Step 0 is the initial one, whose token comes out as that of the first frame; ``step`` is the frame's index. One
        that is not the last one's plus 1 follows frames that were skipped. That of ``inserted`` silence is the index of
        the frame after it.
        """
        if inserted:
            self._insert(step)
        place = self._place(step - 1 if inserted else step)
        if place < 0:
            return []
        if token not in (self._padding, self._end_of_padding):
            self._text += self._decoder.feed(token)
            self._open = True
            return []
        found: list[Word | EndWord] = self._close(place)
        if token == self._end_of_padding:
            if self._unended:
                found.append(EndWord(self._spec.seconds(place)))
            self._last_stop, self._unended = place, False
        return found

    def finish(self, step: int) -> list[Word | EndWord]:
        """Return the word that is open after the last step."""
        return self._close(max(self._place(step), self._last_stop))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the state, for :meth:`restore`."""
        counts = np.array([self._last_stop, self._open, self._unended], np.int64)
        inserted = np.array(self._inserted, np.int64).reshape(-1, 2)
        return {"counts": counts, "text": np.frombuffer(self._text.encode(), np.uint8), "inserted": inserted}

    def restore(self, state: Mapping[str, NDArray[np.generic]], *, until: int) -> None:
        """Go on where :meth:`state` was taken, after ``until`` steps.

        :raises KeyError, ValueError: if it is damaged
        """
        counts, text = state["counts"], state["text"]
        if counts.dtype != np.int64 or counts.shape != (3,) or text.dtype != np.uint8 or text.ndim != 1:
            raise ValueError("its words are of another form")
        last_stop, is_open, unended = (int(count) for count in counts)
        if not 0 <= last_stop <= until or not {is_open, unended} <= {0, 1}:
            raise ValueError("its words do not fit its length")
        inserted = _inserted_silence(state.get("inserted", np.zeros((0, 2), np.int64)), until)  # not in older states
        self._text = text.tobytes().decode()
        self._last_stop, self._open, self._unended = last_stop, bool(is_open), bool(unended)
        self._inserted = inserted

    def _insert(self, step: int) -> None:
        """Count a frame of silence before the frame ``step``."""
        before = self._inserted.pop()[1] if self._inserted and self._inserted[-1][0] == step else 0
        self._inserted.append((step, before + 1))

    def _place(self, step: int) -> int:
        """Return which frame the model tells of now, that has last heard the frame ``step`` and what was inserted."""
        place = step + sum(frames for _, frames in self._inserted) - self._delay
        while self._inserted:
            at, frames = self._inserted[0]
            if place < at + frames:
                return min(place, at)
            self._inserted.popleft()
            place -= frames
        return place

    def _close(self, place: int) -> list[Word | EndWord]:
        if not self._open:
            return []
        text = (self._text + self._decoder.finish()).strip()
        self._text, self._open, self._unended = "", False, True
        return [Word(text, self._spec.seconds(self._last_stop), self._spec.seconds(place))] if text else []


def _inserted_silence(state: NDArray[np.generic], until: int) -> deque[tuple[int, int]]:
    """Return what a state, int64 ``[n, 2]``, tells of inserted silence.

    :raises ValueError: if it is damaged
    """
    if state.dtype != np.int64 or state.ndim != 2 or state.shape[1] != 2:  # noqa: PLR2004 -- where, and how long
        raise ValueError("its inserted silence is of another form")
    inserted = deque((int(place), int(frames)) for place, frames in state)
    places = [0, *(place for place, _ in inserted), until + 1]
    in_order = all(before < after for before, after in pairwise(places))
    if not in_order or not all(0 < frames <= LONGEST_SILENCE for _, frames in inserted):
        raise ValueError("its inserted silence does not fit its length")
    return inserted
