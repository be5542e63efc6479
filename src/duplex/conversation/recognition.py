"""One session of a recognition model, sans I/O: its text is the user's, and there is no agent.

The model hears a silence before the audio and another one after it, and its words come late. Events are on the time
line of the audio that was given: all of that is taken off. Silence that was inserted when the user stopped, so that the
last words come at once, is not on that time line: its frames give words, and nothing else.
"""

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex import events
from duplex.checkpoints.tokenizer import StreamingDetokenizer
from duplex.conversation.session import Session
from duplex.frame_model import Frame, ModelSpec
from duplex.transcription.protocol import Word
from duplex.transcription.words import EndWord, Placement, WordTimes
from duplex.voice_activity.protocol import FrameActivity, VoiceActivity

__all__ = ["RecognitionSession"]

_WORDS = "words."


class RecognitionSession(Session):
    """Turns the frames of a recognition model into events: the user's words, and when the user speaks."""

    def __init__(
        self, spec: ModelSpec, decoder: StreamingDetokenizer, voice: VoiceActivity, placement: Placement
    ) -> None:
        super().__init__(spec, decoder, voice)
        self._words = WordTimes(decoder, spec, placement.delay)
        self._lead = placement.lead / spec.sample_rate

    def process(self, frame: Frame, activity: FrameActivity, *, agent_silent: bool = False) -> list[events.Event]:
        """Process the next time step and its voice activity, if it is of audio; return its events."""
        if frame.inserted:
            return self._text(frame, agent_silent=agent_silent)
        return [
            event if isinstance(event, events.UserText) else attrs.evolve(event, at=self._given(event.at))
            for event in super().process(frame, activity, agent_silent=agent_silent)
        ]

    def finish(self, reason: events.EndReason) -> list[events.Event]:
        """End the session; return its last word, if one is open, and its last event."""
        last = self._texts(self._words.finish(self._step(self.now) - 1)) if reason is events.EndReason.FINISHED else []
        return [*last, *(attrs.evolve(event, at=self._given(event.at)) for event in super().finish(reason))]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the session's state, for :meth:`restore`."""
        return super().state() | {_WORDS + name: value for name, value in self._words.state().items()}

    def _restore(self, state: Mapping[str, NDArray[np.generic]], until: float) -> None:
        super()._restore(state, until)
        own = {name.removeprefix(_WORDS): value for name, value in state.items() if name.startswith(_WORDS)}
        self._words.restore(own, until=self._step(until))

    def _text(self, frame: Frame, *, agent_silent: bool) -> list[events.Event]:  # noqa: ARG002 -- there is none
        return self._texts(self._words.feed(frame.text, self._step(frame.at), inserted=frame.inserted))

    def _texts(self, found: Sequence[Word | EndWord]) -> list[events.Event]:
        return [event for word in found if isinstance(word, Word) for event in self.user_text(word)]

    def user_text(self, word: Word) -> list[events.Event]:
        """Report what the user said, with the times of what the model heard."""
        return super().user_text(Word(word.text, self._given(word.start), self._given(word.end)))

    def _step(self, at: float) -> int:
        return round(at * self._spec.frame_rate)

    def _given(self, at: float) -> float:
        """Return a place on the time line of the audio that was given."""
        return max(at - self._lead, 0.0)
