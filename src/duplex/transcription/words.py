"""The words of a recognition model, from its text tokens.

The rule is the published streaming server's (that of the published example script differs: it needs all tokens, and
takes a word's time from the end-of-padding before it, several words dividing the frames between two of them):

    steps count from 1, the first that hears audio; nothing happens before step ``delay``
    end-of-padding or padding   closes the word that is open: it started at the last stop
    end-of-padding              is a stop, at (step - delay) frames; it ends the words since the last one
    any other token             belongs to the open word

The server sends ``Word(start)`` and, later, ``EndWord(stop)``. A word here has both at once, so as not to wait for the
next one: it ends where it was closed, which is the server's stop if end-of-padding closed it, and earlier if padding
did.
"""

from collections.abc import Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.kind_configs import SttConfig
from duplex.checkpoints.tokenizer import StreamingDetokenizer
from duplex.engine.model import Model
from duplex.frame_model import ModelSpec
from duplex.transcription.protocol import Word

__all__ = ["EndWord", "Placement", "WordTimes", "placement_of"]

PUBLISHED_DELAYS = {0.5: 6, 2.5: 32}
"""Frames that the published server takes for the two published delays in seconds: neither rounded up nor down."""


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

    def feed(self, token: int, step: int) -> list[Word | EndWord]:
        """Take the token of a step; return the word that it closes, and the stop that it is.

        Step 0 is the initial one, whose token comes out as that of the first frame; ``step`` is the frame's index. One
        that is not the last one's plus 1 follows frames that were skipped.
        """
        if step < self._delay:
            return []
        place = step - self._delay
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
        return self._close(max(step - self._delay, self._last_stop))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the state, for :meth:`restore`."""
        counts = np.array([self._last_stop, self._open, self._unended], np.int64)
        return {"counts": counts, "text": np.frombuffer(self._text.encode(), np.uint8)}

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
        self._text = text.tobytes().decode()
        self._last_stop, self._open, self._unended = last_stop, bool(is_open), bool(unended)

    def _close(self, place: int) -> list[Word | EndWord]:
        if not self._open:
            return []
        text = (self._text + self._decoder.finish()).strip()
        self._text, self._open, self._unended = "", False, True
        return [Word(text, self._spec.seconds(self._last_stop), self._spec.seconds(place))] if text else []
