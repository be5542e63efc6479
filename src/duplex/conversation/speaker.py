"""Says a text with a model of speech synthesis: text in, as it comes, audio and the times of words out."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio.to_thread
import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.kind_configs import TtsConfig
from duplex.concurrency.notifiers import ThreadsafeNotifier
from duplex.conversation.saved import SavedConversation
from duplex.conversation.saved_speech import SavedSpeech
from duplex.conversation.seat_answers import restored
from duplex.conversation.speech import Place, Speech
from duplex.conversation.spoken_text import Pieces, Text
from duplex.engine.model import Model
from duplex.engine.seat import Seat
from duplex.errors import UsageError
from duplex.events import Event
from duplex.frame_model import Conditions
from duplex.options import SessionOptions
from duplex.prompting.imitation import imitation_prompt
from duplex.prompting.prompt import Prompt
from duplex.prompting.voices import find_speaker, read_recording
from duplex.synthesis.protocol import Says
from duplex.synthesis.voices import SPEAKERS, read_voice, speaker_conditions

__all__ = ["Speaker"]


class Speaker:
    """One voice of a synthesis model: ``async with duplex.Speaker(model, voice="...") as speaker: ...``.

    ``voice`` is a name of the checkpoint's voices, or a file: of a published voice, or, where the model takes its voice
    from what comes before (no condition ``speaker_wavs``), a recording of up to a minute, which all speakers with the
    same one are given once. A list of published voices is for a dialogue, whose turns they take in their order; from
    recordings there is one voice. A speaker says one text, by :meth:`say`, and falls silent by :meth:`interrupt`.
    ``state`` is what :meth:`export` returned, to go on from there with its voice and options.

    :raises UsageError: if the model says no texts, or a ``state`` comes with a voice or options; on entering, if there
        is no such voice
    :raises StateError: if ``state`` is damaged; on entering, if it is another model's
    :raises AudioFileError: on entering, if a recording cannot be read, is silent, or too long
    :raises CapacityError: on entering, if every place of the model is taken
    """

    def __init__(
        self,
        model: Model,
        *,
        voice: str | Path | Sequence[str | Path] | None = None,
        options: SessionOptions | None = None,
        state: bytes | None = None,
    ) -> None:
        tts = model.tts
        if tts is None or not isinstance(model.frame_model, Says):
            raise UsageError(
                f"{model.name} ({model.spec.kind}) says no texts; give a model of speech synthesis, such as "
                "kyutai/tts-1.6b-en_fr (--model), or hold a duplex.Conversation with this one"
            )
        self.model = model
        self._saved = None if state is None else SavedConversation.from_bytes(state)
        known = None if self._saved is None else SavedSpeech.of(self._saved, model.spec.frame_size)
        if known is not None:
            if voice is not None or options is not None:
                raise UsageError("a saved text has a voice and options of its own; leave voice and options out")
            options = known.options
        self._imitated = 0 if known is None else known.imitated
        self._says: Says = model.frame_model
        own = options.voice if voice is None and options is not None else voice
        given = [own] if isinstance(own, str | Path) else own or ()
        self._tts: TtsConfig = tts
        self._voices = [str(each) for each in given]
        self._options = (options or SessionOptions()).with_defaults(model.defaults)
        self._place: Place | None = None
        self._speech: Speech | None = None
        _check_options(self._options, model)

    async def __aenter__(self) -> Self:
        wakeup = ThreadsafeNotifier()
        seat = await (self._open(wakeup) if self._saved is None else self._restore(wakeup, self._saved))
        self._place = Place(self.model, self._tts, seat, wakeup, self._options, self._imitated)
        return self

    async def _open(self, wakeup: ThreadsafeNotifier) -> Seat:
        """Take a seat for a text from its beginning."""
        conditions, guidance, prompt = await anyio.to_thread.run_sync(self._beginning)
        self._options = attrs.evolve(self._options, guidance=guidance)
        self._imitated = 0 if prompt is None or prompt.voice is None else prompt.voice.shape[1]
        return self.model.engine.open(
            self._options, realtime=False, notify=wakeup.notify, prompt=prompt, conditions=conditions
        )

    async def _restore(self, wakeup: ThreadsafeNotifier, saved: SavedConversation) -> Seat:
        """Take a seat where a text was saved."""
        seat = self.model.engine.open(self._options, realtime=False, notify=wakeup.notify, state=saved.slot)
        try:
            await restored(seat, wakeup)
        except BaseException:
            seat.close()
            raise
        return seat

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._place is not None:
            self._place.seat.close()
            self._place = None
        if self._speech is not None:
            await self._speech.aclose()

    def say(self, text: Text = "") -> AsyncIterator[Event]:
        """Say a text: whole, in pieces as they come (one may end within a word), or the list of a dialogue's turns.

        Gives ``SessionStarted``, then ``AgentAudio`` for each frame and ``AgentText`` with each word at the time that
        it begins, and ``SessionEnded``. Where no more text comes for a while, no more sound does; a text without a word
        ends at once. Iterating raises what the text raises; ``ModelError`` if the model fails, or the text has no end
        within 30000 steps; and ``UsageError`` if the model knows no letter of it, a word has more than 512 tokens or a
        break is longer than a minute. ``SessionEnded`` comes before the error. An asynchronous generator is closed when
        the speaker is left. After a saved text what is left of it is said; ``text`` follows one that came in pieces.

        :raises UsageError: if it is no text, the speaker has not been entered, or it has said another text
        """
        if self._place is None:
            raise UsageError("enter the speaker first: async with duplex.Speaker(...) as speaker")
        if self._speech is not None:
            raise UsageError("a speaker says one text; make another for the next: duplex.Speaker(...)")
        known = None if self._saved is None else SavedSpeech.of(self._saved, self.model.spec.frame_size).text
        self._speech = Speech(self._place, Pieces(text, known), self._saved)
        return self._speech

    async def export(self) -> bytes:
        """Save the text as far as it has been said, when the step in progress is over; it goes on afterwards.

        ``Speaker(model, state=saved)`` goes on from there, in this process or another, with the same words and sound:
        ``say()`` says what is left of a text that was whole, ``say(text)`` what follows to one that comes in pieces.
        Call it from the event loop of :meth:`say`, between two events or from another task.

        :raises UsageError: if nothing is being said yet
        :raises ClosedError: if nothing more will be said
        """
        if self._speech is None:
            raise UsageError("nothing is being said yet; save a text once it is")
        return await self._speech.export()

    def interrupt(self) -> None:
        """Fall silent: nothing more is said, also of a text that waits for its next piece; ``SessionEnded`` follows.

        Call it from the event loop of :meth:`say`. An asynchronous generator that is waited for is cancelled.
        """
        if self._speech is not None:
            self._speech.interrupt()

    def _beginning(self) -> tuple[Conditions, float, Prompt | None]:
        """Return what the session is conditioned on, the guidance that is left to do, and a voice that comes first.

        This reads files.
        """
        conditioners, prompt = dict(self.model.conditioners), None
        vectors = [self._vectors(voice) for voice in self._voices] if SPEAKERS in conditioners else []
        conditions, guidance = speaker_conditions(vectors, conditioners, guidance=self._options.guidance or 1.0)
        if self._voices and SPEAKERS not in conditioners:
            codes, delay = self._recorded(), self._says.delay_steps
            prompt = imitation_prompt(self.model.spec, codes, delay_steps=delay, codebooks=self._options.codebooks)
            conditions = attrs.evolve(conditions, masked_until=codes.shape[1] + delay)
        return conditions, guidance, prompt

    def _vectors(self, given: str) -> NDArray[np.float32]:
        """Return a voice that the model is conditioned on."""
        return read_voice(find_speaker(self.model.voices, given), self.model.conditioners[SPEAKERS].dim)

    def _recorded(self) -> NDArray[np.int64]:
        """Return the codes of a voice that the model goes on from."""
        if len(self._voices) > 1:
            raise UsageError(f"this model speaks with one voice, and {len(self._voices)} were given; give one")
        return read_recording(find_speaker(self.model.voices, self._voices[0]), self.model.codec)


def _check_options(options: SessionOptions, model: Model) -> None:
    """Check that a model of synthesis can do what is asked for.

    :raises UsageError: if it has fewer codebooks, is to take instructions, or has no such adapter
    """
    model.check_adapter(options)
    most = model.spec.agent_streams
    if options.codebooks is not None and options.codebooks > most:
        raise UsageError(f"codebooks is {options.codebooks}; this model has {most}, so give 1 to {most}")
    if options.instructions is not None:
        raise UsageError("a model of speech synthesis takes no instructions; leave that out, and give it what to say")
