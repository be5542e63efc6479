"""Says a text with a model of speech synthesis: text in, as it comes, audio and the times of words out.

1. A step runs only when the model knows enough of what comes: the words that it looks ahead to, or that no more comes.
2. Sound comes a while after its text; the time line is that of the sound.
3. Every step is one frame pushed to the seat and one answer taken, so that a text that pauses pauses the model.
"""

import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import anyio.to_thread
import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.kind_configs import TtsConfig
from duplex.conversation.spoken_text import NEVER, Pieces, SpokenText, Text
from duplex.engine.model import Model
from duplex.engine.notifiers import ThreadsafeNotifier
from duplex.engine.outcomes import Failed, ScriptProgress
from duplex.engine.seat import Job, Seat
from duplex.errors import ModelError, UsageError
from duplex.events import AgentAudio, AgentText, EndReason, Event, SessionEnded, SessionStarted, Usage
from duplex.frame_model import Conditions, Frame
from duplex.options import SessionOptions
from duplex.prompting.imitation import imitation_prompt
from duplex.prompting.prompt import Prompt
from duplex.prompting.voices import find_voice, read_recording
from duplex.synthesis.protocol import Says
from duplex.synthesis.script import Entry, ScriptReader
from duplex.synthesis.voices import SPEAKERS, read_voice, speaker_conditions

__all__ = ["Speaker"]

MAX_STEPS = 30_000
"""Steps of one text, 40 minutes."""
FINAL_PADDING = 4
"""Steps after the one at which there is nothing left to say."""


class Speaker:
    """One voice of a synthesis model: ``async with duplex.Speaker(model, voice="...") as speaker: ...``.

    ``voice`` is a name of the checkpoint's voices, or a file of one; a list of them is for a dialogue, whose turns they
    take in their order. A speaker says one text, by :meth:`say`.

    :raises UsageError: if the model says no texts, or there is no such voice
    :raises CapacityError: on entering, if every place of the model is taken
    """

    def __init__(
        self,
        model: Model,
        *,
        voice: str | Path | Sequence[str | Path] | None = None,
        options: SessionOptions | None = None,
    ) -> None:
        tts = model.tts
        if tts is None or not isinstance(model.frame_model, Says):
            raise UsageError(
                f"{model.name} ({model.spec.kind}) says no texts; load a model of speech synthesis, or hold a "
                "duplex.Conversation with this one"
            )
        self.model = model
        self._says: Says = model.frame_model
        given = [voice] if isinstance(voice, str | Path) else voice or ()
        self._tts: TtsConfig = tts
        self._voices = [str(each) for each in given]
        self._options = (options or SessionOptions()).with_defaults(model.defaults)
        self._seat: Seat | None = None

    async def __aenter__(self) -> Self:
        conditions, guidance, prompt = await anyio.to_thread.run_sync(self._beginning)
        self._options = attrs.evolve(self._options, guidance=guidance)
        self._wakeup = ThreadsafeNotifier()
        self._imitated = 0 if prompt is None or prompt.voice is None else prompt.voice.shape[1]
        self._seat = self.model.engine.open(
            self._options, realtime=False, notify=self._wakeup.notify, prompt=prompt, conditions=conditions
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._seat is not None:
            self._seat.close()
            self._seat = None

    def say(self, text: Text) -> AsyncIterator[Event]:
        """Say a text: whole, in pieces as they come (one may end within a word), or the list of a dialogue's turns.

        Gives ``SessionStarted``, then ``AgentAudio`` for each frame and ``AgentText`` with each word at the time that
        it begins, and ``SessionEnded``. Where no more text comes for a while, no more sound does. Iterating raises
        ``ModelError`` if the model fails, or the text has no end within 30000 steps.

        :raises UsageError: before the speaker has been entered
        """
        if self._seat is None:
            raise UsageError("enter the speaker first: async with duplex.Speaker(...) as speaker")
        return _Speech(self.model, self._tts, self._seat, self._wakeup, self._options, Pieces(text), self._imitated)

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
        voices = self.model.voices
        named = [name for name in voices.names if name == given or name.startswith(f"{given}.")]
        name = named[0] if len(named) == 1 else given
        return read_voice(find_voice(voices, name, files=True), self.model.conditioners[SPEAKERS].dim)

    def _recorded(self) -> NDArray[np.int64]:
        """Return the codes of a voice that the model goes on from."""
        if len(self._voices) > 1:
            raise UsageError(f"this model speaks with one voice, and {len(self._voices)} were given; give one")
        return read_recording(find_voice(self.model.voices, self._voices[0], files=True), self.model.codec)


class _Speech:
    """The events of one text."""

    def __init__(
        self,
        model: Model,
        tts: TtsConfig,
        seat: Seat,
        wakeup: ThreadsafeNotifier,
        options: SessionOptions,
        pieces: Pieces,
        imitated: int,
    ) -> None:
        spec = model.spec
        self._model, self._seat, self._wakeup, self._pieces = model, seat, wakeup, pieces
        self._says = cast("Says", model.frame_model)
        self._script = SpokenText(tts.second_stream_ahead)
        between = 1 if options.padding_between is None else options.padding_between
        self._reader = ScriptReader(
            model.tokenizer, spec.frame_rate, speakers=SPEAKERS in model.conditioners, padding_between=between
        )
        self._silence = np.zeros(spec.frame_size, np.float32)
        self._imitated = imitated
        self._step = -1 if imitated else 0  # the last one that has been run; those of a voice before do not count
        self._frames = self._sequence = 0
        self._ended = False
        started = SessionStarted(
            sequence=0,
            at=0.0,
            session_id=secrets.token_hex(8),
            model=model.name,
            seed=options.seed or 0,
            sample_rate=spec.sample_rate,
            frame_duration=spec.frame_duration,
        )
        self._events: deque[Event] = deque([started])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            await self._advance()
        event = attrs.evolve(self._events.popleft(), sequence=self._sequence)
        self._sequence += 1
        return event

    async def _advance(self) -> None:
        """Run one step, as soon as the text allows it."""
        spec, script = self._model.spec, self._script
        await self._give(script.due())
        while not script.ready:
            given = await self._pieces.next()
            script.complete = given is None
            if given is not None:
                script.read(self._reader.turn(given[1], given[0]))
            await self._give(script.due())
        self._seat.push(self._silence)
        self._step += 1
        progress, frame = await self._answer()
        for _ in range(progress.words - script.progress.words):
            at = spec.seconds(self._step)
            self._events.append(AgentText(sequence=0, at=at, text=script.words.popleft(), token=0))
        script.progress = progress
        if frame is not None and frame.agent_pcm is not None:
            self._events.append(AgentAudio(sequence=0, at=spec.seconds(self._frames), pcm=frame.agent_pcm))
            self._frames += 1
        last = progress.end - self._imitated + self._says.delay_steps + FINAL_PADDING
        if progress.end != NEVER and self._step + 1 >= last:  # the initial step is one, too
            self._end()
        elif self._step == MAX_STEPS:
            raise ModelError(f"the text has not come to its end within {MAX_STEPS} steps; say it in parts")

    def _end(self) -> None:
        at = self._model.spec.seconds(self._frames)
        used = Usage(frames=self._frames, seconds=at, dropped_seconds=0.0)
        self._events.append(SessionEnded(sequence=0, at=at, reason=EndReason.FINISHED, usage=used))
        self._ended = True

    async def _give(self, entries: list[Entry]) -> None:
        """Give the model more to say, on its own thread."""
        if not entries:
            return
        self._script.add(entries)
        seat, says = self._seat, self._says

        done: list[Exception | None] = []

        def say() -> Job:
            while not (seat.ready or seat.closed):
                yield
            try:
                if not seat.closed:
                    says.say(seat.slot, entries)
            except Exception as error:  # noqa: BLE001 -- it belongs to whoever speaks
                done.append(error)
            else:
                done.append(None)
            seat.wake()

        self._model.engine.submit(say())
        while not done:  # or a step could run before it knows the words
            await self._wakeup.wait()
        if done[0] is not None:
            raise ModelError(f"the model cannot take the text ({done[0]})") from done[0]

    async def _answer(self) -> tuple[ScriptProgress, Frame | None]:
        """Return what a step gave."""
        progress: ScriptProgress | None = None
        frame: Frame | None = None
        while progress is None:
            await self._wakeup.wait()
            for outcome in self._seat.take():
                if isinstance(outcome, Failed):
                    raise outcome.error
                if isinstance(outcome, ScriptProgress):
                    progress = outcome
                elif isinstance(outcome, Frame):
                    frame = outcome
        return progress, frame
