"""Runs a conversation on a model of this machine: audio in from a transport, events out, the agent's audio back.

It has three tasks: one brings the transport's audio to the model (:mod:`duplex.conversation.listening`), one turns the
model's results into events, and one plays the agent's audio (:mod:`duplex.conversation.playback`).
"""

import secrets
from collections.abc import Sequence
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.tokenizer import StreamingDetokenizer
from duplex.checkpoints.voices import Voices
from duplex.concurrency.notifiers import ThreadsafeNotifier, weak_callback
from duplex.conversation.beginning import Beginning
from duplex.conversation.exporting import Exports
from duplex.conversation.listening import Listener
from duplex.conversation.muting import AgentMute
from duplex.conversation.recognition import RecognitionSession
from duplex.conversation.runner import Runner, Task
from duplex.conversation.saved import SavedConversation
from duplex.conversation.session import EventQueue, Session
from duplex.conversation.user_words import UserWords
from duplex.engine.model import Model
from duplex.engine.outcomes import Exported, Failed, Finished, Outcome, ScriptProgress, Skipped
from duplex.engine.seating import HeldSeat
from duplex.errors import ClosedError, UsageError
from duplex.events import EndReason, Event, UserSpeechStopped
from duplex.frame_model import Frame, SessionState
from duplex.options import SessionOptions
from duplex.prompting.building import check_persona
from duplex.prompting.prompt import known_history
from duplex.transcription.protocol import Missed, Transcriber, Word
from duplex.transcription.words import placement_of
from duplex.transport import Transport
from duplex.voice_activity.protocol import FrameActivity

__all__ = ["LocalRunner", "Recorder"]

NO_ACTIVITY = FrameActivity(())
"""Of frames that no detector listens to."""
SEED_BITS = 53
"""Bits of a seed drawn for a live session: integers that every JSON parser keeps exactly."""


class Recorder(Protocol):
    """Receives every time step of a local conversation, both sides of it, in order.

    A frame has the tokens of the text and of both sides, which a conversation on a server does not have.
    """

    def record(self, frame: Frame) -> None:
        """Take one time step; ``frame.at`` jumps where frames were skipped."""
        ...


class LocalRunner(Runner):
    """Runs a conversation on a loaded model, whose seats may be in another process."""

    def __init__(  # noqa: PLR0913 -- what can be chosen about a conversation
        self,
        model: Model,
        transport: Transport | None,
        *,
        options: SessionOptions,
        sample_rate: int | None,
        wait: float | None,
        saved: SavedConversation | None,
        continues: int | None = None,
        recorder: Recorder | None,
        audio_events: bool,
        history: NDArray[np.int64] | None,
        voices: Voices | None,
        transcriber: Transcriber | None = None,
        flush_on_pause: bool = False,
    ) -> None:
        spec = model.spec
        check_persona(spec.kind, options)
        if saved is None:  # a state knows its own
            model.check_adapter(options)
        if spec.kind == "tts":
            raise UsageError(f"{model.name} says texts and hears nothing; use duplex.Speaker, or `duplex say`")
        self.session_id: str = secrets.token_hex(8) if saved is None else saved.session_id
        self._model = model
        self._saved = saved
        decoder = StreamingDetokenizer(model.tokenizer, spec.text_padding, spec.text_end_of_padding)
        voice = model.voice_activity(spec.sample_rate)
        self._placement = placement_of(model)
        self._pause_flush = self._placement.flush if flush_on_pause and self._placement is not None else 0
        """Frames of silence that the model hears when the user stops."""
        self._session = (
            Session(spec, decoder, voice, audio_events=audio_events)
            if self._placement is None
            else RecognitionSession(spec, decoder, voice, self._placement)
        )
        if saved is not None:
            self._session.restore(saved.session, until=saved.resume_at(model.spec))
        self._realtime = transport is not None and transport.realtime
        first = 0 if saved is None else max(saved.sequence, continues or 0)
        self._continues = continues is not None
        queue = EventQueue(realtime=self._realtime, frame_duration=spec.frame_duration, first=first)
        super().__init__(transport, sample_rate or spec.sample_rate, queue)
        self._options = self._complete_options(options)
        self._beginning = Beginning(
            model=model,
            options=self._options,
            state=None if saved is None else saved.slot,
            history=None if history is None else known_history(history, spec),
            voices=voices,
            realtime=self._realtime,
            wait=wait,
        )
        self._recorder = recorder
        self._mute = AgentMute()
        self._transcriber = transcriber
        self._words: UserWords | None = None
        self._exports = Exports()

    async def open(self) -> Sequence[Task]:
        """Acquire what the conversation needs; return the tasks that run it."""
        self._wakeup = ThreadsafeNotifier()
        prompt = await self._beginning.build_prompt()
        self.seat: HeldSeat = await self._beginning.take_seat(prompt, weak_callback(self._wakeup.notify))
        try:
            while prompt is not None and not self.seat.ready:
                await self._wakeup.wait()
            self._wakeup.notify()  # for the task that takes what may have come meanwhile, a failure for one
            if self._transcriber is not None:
                transcription = self._transcriber.open(self._model.spec.sample_rate, realtime=self._realtime)
                self._words = UserWords(transcription, self._tell_words, realtime=self._realtime)
        except BaseException:
            self.seat.close()
            raise
        lead = 0
        if self._placement is not None:
            self.seat.flush += self._placement.flush
            # A conversation may have been saved before it came to its audio.
            lead = max(self._placement.lead - self.seat.index * self._model.spec.frame_size, 0)
        self.listener: Listener = Listener(
            self.transport,
            self.seat,
            self._model.spec,
            self._report_late,
            self._report_lost,
            lead=lead,
            lockstep=self._pause_flush > 0,
        )
        if not self._continues:
            self.emit(self._session.start(self.session_id, self._model.name, self._options.seed or 0))
        tasks = self.listener.run, self._process_outcomes
        return tasks if self._words is None else (*tasks, self._words.run)

    def last_events(self, reason: EndReason) -> list[Event]:
        """Return the events that end the session."""
        return self._session.finish(reason)

    def release(self) -> None:
        """Free the slot, and wake whoever waits for an export."""
        self._exports.close()
        try:
            self.seat.close()
        finally:
            if self._words is not None:
                self._words.close()  # of a transcriber that may be the user's own: whatever it raises, the rest is done

    async def hang_up(self) -> None:
        """Close nothing: a slot is freed at once."""

    def release_abandoned(self) -> None:
        """Free the slot from any thread, in the middle of whatever that thread does."""
        self.seat.abandon()
        if self._words is not None:
            self._words.close()

    async def interrupt(self) -> None:
        """Let nothing more be heard of what the agent is saying."""
        self._mute.interrupt()
        self.playback.discard()

    async def mute_agent(self, muted: bool) -> None:
        """Let nothing be heard of the agent, or hear it again."""
        self._mute.muted = muted
        if muted:
            self.playback.discard()

    async def press_key(self, key: str) -> None:
        """Note that the user pressed a key."""
        self.emit(self._session.key(key))

    async def export(self, *, halt: bool = False) -> bytes:
        """Save the conversation as it is at the next frame boundary; with ``halt`` it stands still from there on.

        :raises ClosedError: if the conversation is over
        """
        if self.over or not self.running:
            raise ClosedError("the conversation is not going on; export it while it is")
        state = await self._exports.ask(self._begin_export, halt=halt)
        if halt:
            await self.playback.drain()
            while self.queue.waiting:
                await self.event_taken.wait()
            if self.left:
                raise ClosedError("the conversation was left before all of it was told; export it while it goes on")
        return state

    def go_on(self) -> None:
        """Go on after an export that has halted the conversation."""
        self._exports.let_go_on()

    def _begin_export(self) -> None:
        self.event_taken.notify_all()
        self.seat.export()

    def _complete_options(self, options: SessionOptions) -> SessionOptions:
        if self._saved is not None:
            return attrs.evolve(options, seed=self._saved.seed)
        if options.seed is None and self._realtime:
            options = attrs.evolve(options, seed=secrets.randbits(SEED_BITS))
        return options.with_defaults(self._model.defaults)

    def _report_late(self, seconds: float) -> None:
        self.emit(self._session.lag(self._session.now, seconds, seconds, "user"))

    def _report_lost(self, frames: int) -> None:
        lost = self._model.spec.seconds(frames)
        self.emit(self._session.lag(self._session.now, lost, lost, "agent"))

    async def _process_outcomes(self) -> None:
        """Turn the model's results into events, and pass the agent's audio to the playback."""
        while not self.over:
            await self._wakeup.wait()
            self.listener.progress.notify_all()
            for outcome in self.seat.take():
                await self._process(outcome)
                if self._exports.halted:
                    await self._exports.wait_released()

    async def _process(self, outcome: Outcome) -> None:
        match outcome:
            case Frame(inserted=True):
                self.emit(self._session.process(outcome, NO_ACTIVITY))
            case Frame():
                await self._process_frame(outcome)
            case Skipped(at, behind, seconds):
                self.emit(self._session.lag(at, behind, seconds, "user"))
            case Exported(state):
                self._finish_export(state)
            case Finished():
                await self.playback.finish()
                if self._words is not None:
                    await self._words.finish()
                self.end(EndReason.FINISHED)
            case ScriptProgress():  # of a model of synthesis, with which there are no conversations
                pass
            case Failed(error):
                raise error

    def _tell_words(self, found: Word | Missed) -> None:
        if isinstance(found, Word):
            self.emit(self._session.user_text(found))
        else:
            self.emit(self._session.lag(found.at, found.behind, found.seconds, "transcript"))

    def _finish_export(self, state: SessionState | Exception) -> None:
        if isinstance(state, Exception):
            self._exports.finish(state)
            return
        sequence, seed = self.queue.next_sequence, self._options.seed or 0
        self._exports.finish(SavedConversation(self.session_id, seed, sequence, self._session.state(), state))

    async def _process_frame(self, frame: Frame) -> None:
        frame = self._mute.apply(frame)
        # The agent's audio first: the detector takes a moment.
        dropped = 0 if frame.agent_pcm is None else await self.playback.play(frame.agent_pcm)
        activity = await self._model.detectors.detect(self._session.voice, frame, patient=self._realtime)
        if self._recorder is not None:
            self._recorder.record(frame)
        found = self._session.process(frame, activity, agent_silent=self._mute.silent)
        self.emit(found)
        if self._pause_flush and any(isinstance(event, UserSpeechStopped) for event in found):
            self.seat.insert_silence(self._pause_flush)
        self.listener.settle(frame.at)
        if self._words is not None:
            await self._words.hear(frame, found)
        self.queue.pass_frame()
        if dropped:
            behind, lost = (self._model.spec.seconds(count) for count in (self.playback.LIVE_FRAMES, dropped))
            self.emit(self._session.lag(frame.at - behind, behind, lost, "agent"))
        # The task that exports may be the consumer, which takes no event until that is done.
        while self.queue.full and not self._exports:
            await self.event_taken.wait()
