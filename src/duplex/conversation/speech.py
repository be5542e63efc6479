"""The events of one text that a model of synthesis says.

1. A step runs only when the model knows enough of what comes: the words that it looks ahead to, or that no more comes.
2. Sound comes a while after its text; the time line is that of the sound, from the end of a voice that came first.
3. Every step is one frame pushed to the seat and one answer taken, so that a text that pauses pauses the model.
4. A text without a word ends at once, without a sound. One of whose words the model knows no letter is an error.
"""

import secrets
from collections import deque
from typing import Self, cast

import anyio
import anyio.to_thread
import attrs
import numpy as np

from duplex.checkpoints.kind_configs import TtsConfig
from duplex.concurrency.notifiers import ThreadsafeNotifier
from duplex.conversation.saved import SavedConversation
from duplex.conversation.saved_speech import SavedSpeech
from duplex.conversation.seat_answers import answer, check, exported
from duplex.conversation.spoken_text import NEVER, Pieces, SpokenText
from duplex.engine.model import Model
from duplex.engine.outcomes import ScriptProgress
from duplex.engine.seat import Job, Seat
from duplex.errors import ClosedError, ModelError, UsageError
from duplex.events import AgentAudio, AgentText, EndReason, Event, SessionEnded, SessionStarted, Usage
from duplex.options import SessionOptions
from duplex.parsing import shown
from duplex.synthesis.protocol import Says
from duplex.synthesis.script import Entry, ScriptReader
from duplex.synthesis.voices import SPEAKERS

__all__ = ["Place", "Speech"]

MAX_STEPS = 30_000
"""Steps of one text, 40 minutes."""
_TAKEN = Entry((), "", 0)
"""Stands for what a model has taken of a text before it was saved."""
FINAL_PADDING = 4
"""Steps after the one at which there is nothing left to say."""


@attrs.frozen(eq=False)
class Place:
    """Where a text is said: in a seat that notifies, after the ``imitated`` frames of a voice."""

    model: Model
    tts: TtsConfig
    seat: Seat
    wakeup: ThreadsafeNotifier
    options: SessionOptions
    imitated: int = 0


class Speech:
    """An asynchronous iterator of the events of one text, for one consumer."""

    def __init__(self, place: Place, pieces: Pieces, saved: SavedConversation | None = None) -> None:
        """Say a text from its beginning, or go on with one that was saved."""
        model, options, spec = place.model, place.options, place.model.spec
        self._model, self._seat, self._wakeup, self._pieces = model, place.seat, place.wakeup, pieces
        self._says, self._options = cast("Says", model.frame_model), options
        self._script = SpokenText(place.tts.second_stream_ahead)
        between = 1 if options.padding_between is None else options.padding_between
        self._reader = ScriptReader(
            model.tokenizer, spec.frame_rate, speakers=SPEAKERS in model.conditioners, padding_between=between
        )
        self._silence = np.zeros(spec.frame_size, np.float32)
        self._imitated = place.imitated
        self._step = -1 if place.imitated else 0  # the last one that has been run, but for those of the voice
        self._frames = self._sequence = 0
        self._ended = self._interrupted = self._stepping = False
        self._given: list[Exception | None] | None = None
        self._error: Exception | None = None
        self._scope: anyio.CancelScope | None = None
        self._lock = anyio.Lock()
        """Held while the model is asked for something: a state is of a moment at which it is not."""
        self.session_id: str = secrets.token_hex(8) if saved is None else saved.session_id
        started = SessionStarted(
            sequence=0,
            at=0.0,
            session_id=self.session_id,
            model=model.name,
            seed=options.seed or 0,
            sample_rate=spec.sample_rate,
            frame_duration=spec.frame_duration,
        )
        self._events: deque[Event] = deque([started])
        if saved is not None:
            self._go_on_from(SavedSpeech.of(saved, spec.frame_size), saved.sequence)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopAsyncIteration
            await self._go_on()
        event = attrs.evolve(self._events.popleft(), sequence=self._sequence)
        self._sequence += 1
        return event

    def interrupt(self) -> None:
        """Say no more, from any task of the event loop: what has not been taken is not heard."""
        if self._ended:
            return
        self._interrupted = True
        self._events = deque(event for event in self._events if not isinstance(event, AgentAudio))
        if self._scope is not None:
            self._scope.cancel()

    async def aclose(self) -> None:
        """Let go of the text."""
        self._ended = True
        await self._pieces.aclose()

    async def export(self) -> bytes:
        """Save the text as far as it has been said, when the step in progress is over; it goes on afterwards.

        :raises ClosedError: if nothing more will be said
        :raises ModelError: if the model cannot be asked
        """
        async with self._lock:
            await self._settle()
            if self._ended or self._interrupted:
                raise ClosedError("the text has been said, so there is nothing to save; say the next")
            slot = await exported(self._seat, self._wakeup)
            saved = SavedConversation(
                self.session_id, self._options.seed or 0, self._sequence, self._saved().tensors(), slot
            )
        return await anyio.to_thread.run_sync(saved.to_bytes)

    async def _settle(self) -> None:
        """Wait until the model has what it was given, and take what a step gave that a caller gave up waiting for."""
        try:
            await self._known()
            if self._stepping and not self._ended:
                await self._take()
        except Exception as error:
            self._error = error
            self._end(EndReason.FAILED)
            raise

    def _saved(self) -> SavedSpeech:
        script, progress = self._script, self._script.progress
        waiting = [event for event in self._events if isinstance(event, AgentText | AgentAudio)]
        sound = [event.pcm for event in waiting if isinstance(event, AgentAudio)]
        return SavedSpeech(
            text=self._pieces.saved(),
            entries=script.entries[progress.entries :],
            later=list(script.later),
            words=list(script.words),
            progress=(progress.entries, progress.words, progress.end),
            complete=script.complete,
            last_speaker=self._reader.last,
            left_out=self._reader.left_out,
            imitated=self._imitated,
            step=self._step,
            frames=self._frames,
            told=[(event.at, event.text if isinstance(event, AgentText) else None) for event in waiting],
            pcm=np.array(sound, np.float32).reshape(-1, self._model.spec.frame_size),
            options=self._options,
        )

    def _go_on_from(self, saved: SavedSpeech, sequence: int) -> None:
        script, sound = self._script, iter(saved.pcm)
        script.entries = [_TAKEN] * saved.progress[0] + list(saved.entries)
        script.later, script.words = deque(saved.later), deque(saved.words)
        script.progress, script.complete = ScriptProgress(*saved.progress), saved.complete
        self._reader.last, self._reader.left_out = saved.last_speaker, saved.left_out
        self._imitated, self._step = saved.imitated, saved.step
        self._frames, self._sequence = saved.frames, sequence
        for at, word in saved.told:
            told = (
                AgentAudio(sequence=0, at=at, pcm=next(sound))
                if word is None
                else AgentText(sequence=0, at=at, text=word, token=0)
            )
            self._events.append(told)

    async def _go_on(self) -> None:
        """Advance; what fails, or is interrupted, ends."""
        try:
            with anyio.CancelScope() as self._scope:
                if not self._interrupted:
                    await self._advance()
        except Exception as error:  # noqa: BLE001 -- also the text's own: its last event comes before it
            self._error = error
            self._end(EndReason.FAILED)
        finally:
            self._scope = None
        if self._interrupted and not self._ended:
            self._end(EndReason.INTERRUPTED)

    async def _advance(self) -> None:
        """Run one step, as soon as the text allows it; go on with one that was left when a caller gave up waiting."""
        if not self._stepping:
            await self._read()
            if not self._script.entries:
                self._end_unsaid()
                return
        async with self._lock:
            if not self._stepping:
                self._seat.push(self._silence)
                self._step += 1
                self._stepping = True
            await self._take()

    async def _take(self) -> None:
        """Take what a step gave."""
        spec, script = self._model.spec, self._script
        progress, frame = await answer(self._seat, self._wakeup)
        self._stepping = False
        for _ in range(progress.words - script.progress.words):
            at = spec.seconds(self._step)
            self._events.append(AgentText(sequence=0, at=at, text=script.words.popleft(), token=0))
        script.progress = progress
        if frame is not None and frame.agent_pcm is not None:
            self._events.append(AgentAudio(sequence=0, at=spec.seconds(self._frames), pcm=frame.agent_pcm))
            self._frames += 1
        last = progress.end - self._imitated + self._says.delay_steps + FINAL_PADDING
        if progress.end != NEVER and self._step + 1 >= last:  # the initial step is one, too
            self._end(EndReason.FINISHED)
        elif self._step >= MAX_STEPS:
            raise ModelError(f"the text has not come to its end within {MAX_STEPS} steps; say it in parts")

    async def _read(self) -> None:
        """Read on until the next step may run."""
        script = self._script
        await self._give()
        while not script.ready:
            given = await self._pieces.next()
            script.complete = given is None
            if given is not None:
                script.read(self._reader.turn(given[1], given[0]))
            await self._give()

    def _end_unsaid(self) -> None:
        """End a text in which nothing is to be said."""
        if self._reader.left_out is not None:
            raise UsageError(
                f"the model has no pieces for any word of the text, of {shown(self._reader.left_out)} for one; give a "
                "text in a script that it was made for"
            )
        self._end(EndReason.FINISHED)

    def _end(self, reason: EndReason) -> None:
        at = self._model.spec.seconds(self._frames)
        used = Usage(frames=self._frames, seconds=at, dropped_seconds=0.0)
        self._events.append(SessionEnded(sequence=0, at=at, reason=reason, usage=used))
        self._ended = True

    async def _give(self) -> None:
        """Give the model more to say, on its own thread, and wait until it has it, or a step could run before."""
        async with self._lock:
            await self._known()
            entries = self._script.due()
            if entries:
                self._submit(entries)
                await self._known()

    def _submit(self, entries: list[Entry]) -> None:
        """Give the model these entries, as soon as its thread comes to it."""
        self._script.add(entries)
        seat, says = self._seat, self._says
        done: list[Exception | None] = []

        def say() -> Job:
            while not (seat.ready or seat.closed):
                yield
            try:
                if not seat.over:
                    says.say(seat.slot, entries)
            except Exception as error:  # noqa: BLE001 -- it belongs to whoever speaks
                done.append(error)
            else:
                done.append(None)
            seat.wake()

        self._given = done
        self._model.engine.submit(say())

    async def _known(self) -> None:
        """Wait until the model has what it was given, which it never has if it fails, or is left, before that."""
        while self._given is not None and not self._given:
            await self._wakeup.wait()
            check(self._seat)
        error, self._given = self._given[0] if self._given else None, None
        if error is not None:
            raise ModelError(f"the model cannot take the text ({error})") from error
