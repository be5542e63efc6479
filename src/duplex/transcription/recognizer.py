"""A recognition model beside a conversation: it hears the user's audio in sessions of its own."""

from collections.abc import Sequence

import anyio
import numpy as np
from numpy.typing import NDArray

from duplex.audio.pcm import Framer
from duplex.concurrency.notifiers import Notifier, ThreadsafeNotifier, weak_callback
from duplex.engine.model import Model
from duplex.engine.outcomes import Failed, Finished, Outcome
from duplex.errors import UsageError
from duplex.frame_model import Frame
from duplex.options import SessionOptions
from duplex.transcription.protocol import Missed, Word
from duplex.transcription.words import Placement, placement_of, words_of

__all__ = ["SttTranscriber"]

Float32 = NDArray[np.float32]


class SttTranscriber:
    """Transcribes with a recognition model that has been loaded, one of its sessions for each conversation.

    With ``flush_on_pause`` a turn's last words come at its end, as in a :class:`duplex.Conversation` on the model.

    :raises UsageError: if the model is of another kind
    """

    def __init__(self, model: Model, *, flush_on_pause: bool = False) -> None:
        placement = placement_of(model)
        if placement is None:
            raise UsageError(f"{model.name} is a model of kind {model.spec.kind!r}; give one that recognises speech")
        self.model = model
        self._placement = placement
        self._flush = placement.flush if flush_on_pause else 0

    def open(self, sample_rate: int, *, realtime: bool) -> "_SttTranscription":
        """Begin to transcribe a conversation with audio of this rate, in its event loop.

        :raises CapacityError: if all sessions of the model are taken
        :raises UsageError: if the model's audio has another rate
        """
        own = self.model.spec.sample_rate
        if sample_rate != own:
            raise UsageError(
                f"the audio has {sample_rate} Hz, and {self.model.name} hears {own} Hz; give another model"
            )
        return _SttTranscription(self.model, self._placement, self._flush, realtime=realtime)


class _SttTranscription:
    """One conversation's."""

    WAITING = 75
    """Frames that may wait for the model: of a live conversation, the next are left out."""

    def __init__(self, model: Model, placement: Placement, flush: int, *, realtime: bool) -> None:
        self._spec = model.spec
        self._flush = flush
        self._realtime = realtime
        self._words = words_of(model, placement)
        self._lead = placement.lead / self._spec.sample_rate
        self._framer = Framer(self._spec.frame_size)
        self._heard = 0.0
        """The end of what was heard, on the conversation's time line."""
        self._step = 0
        self._found: list[Word | Missed] = []
        self._ended = self._closed = False
        self._progress = Notifier()
        self._results = ThreadsafeNotifier()
        options = SessionOptions(seed=0).with_defaults(model.defaults)
        self._seat = model.engine.open(options, realtime=False, notify=weak_callback(self._results.notify))
        self._seat.flush += placement.flush
        self._push(np.zeros(placement.lead, np.float32))

    def hear(self, at: float, pcm: Float32) -> None:
        skipped = round((at - self._heard) * self._spec.frame_rate)
        if skipped > 0:
            self._seat.skip(skipped)
        self._heard = at + len(pcm) / self._spec.sample_rate
        if self._realtime and self._seat.waiting >= self.WAITING:
            self._seat.skip(1)
            behind = self._spec.seconds(self._seat.waiting)
            self._found.append(Missed(at, behind, self._spec.frame_duration))
            self._results.notify()
            return
        self._push(pcm)

    def turn(self, *, started: bool, at: float) -> None:  # noqa: ARG002 -- what it hears of a turn has been pushed
        """Insert the silence that brings a turn's last words, if that is wanted: the model hears all."""
        if self._flush and not started:
            self._seat.insert_silence(self._flush)

    async def room(self) -> None:
        while self._seat.waiting >= self.WAITING and not self._ended:
            await self._progress.wait()

    def finish(self) -> None:
        rest = self._framer.flush()
        if rest is not None:
            self._seat.push(rest)
        self._seat.finish()

    async def receive(self) -> Sequence[Word | Missed]:
        while not self._found:
            if self._ended:
                raise anyio.EndOfStream
            await self._results.wait()
            self._progress.notify_all()
            for outcome in self._seat.take():
                self._take(outcome)
        found, self._found = self._found, []
        return found

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._seat.abandon()

    def _push(self, pcm: Float32) -> None:
        for frame in self._framer.push(pcm):
            self._seat.push(frame)

    def _take(self, outcome: Outcome) -> None:
        match outcome:
            case Frame():
                step = round(outcome.at * self._spec.frame_rate)
                closed = self._words.feed(outcome.text, step, inserted=outcome.inserted)
                self._step = step - 1 if outcome.inserted else step
            case Finished():
                self._ended = True
                closed = self._words.finish(self._step)
            case Failed(error):
                raise error
            case _:
                return
        for word in closed:
            if isinstance(word, Word):
                start, end = (max(place - self._lead, 0.0) for place in (word.start, word.end))
                self._found.append(Word(word.text, start, end))
