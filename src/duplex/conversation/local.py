"""A conversation on a local model: audio in from a transport, events out, the agent's audio back.

It has three tasks: one brings the transport's audio to the model (:mod:`duplex.conversation.listening`), one turns the
model's results into events, and one plays the agent's audio (:mod:`duplex.conversation.playback`).
"""

import secrets
from collections.abc import Sequence
from typing import Protocol

import anyio
import attrs

from duplex.checkpoints.tokenizer import StreamingDetokenizer
from duplex.conversation.dialogue import Dialogue, Task, check_transport
from duplex.conversation.listening import Listener
from duplex.conversation.saved import SavedConversation
from duplex.conversation.session import EventQueue, Session
from duplex.engine.model import Model
from duplex.engine.notifiers import ThreadsafeNotifier
from duplex.engine.seat import Exported, Failed, Finished, Outcome, Seat, Skipped
from duplex.errors import CapacityError, ClosedError, UsageError
from duplex.events import EndReason, Event
from duplex.frame_model import Frame, SessionState
from duplex.options import SessionOptions
from duplex.transport import Transport

__all__ = ["Conversation", "Recorder"]

SEED_BITS = 53
"""Bits of a seed drawn for a live session: integers that every JSON parser keeps exactly."""


class Recorder(Protocol):
    """Receives every time step of a local conversation, both sides of it, in order.

    A frame has the tokens of the text and of both sides, which only a model of this process gives.
    """

    def record(self, frame: Frame) -> None:
        """Take one time step; ``frame.at`` jumps where frames were skipped."""
        ...


@attrs.define(eq=False)
class _Export:
    """An export in progress, and its result."""

    done: anyio.Event = attrs.Factory(anyio.Event)
    saved: SavedConversation | None = None
    error: Exception | None = None


class Conversation(Dialogue):
    """One full-duplex conversation on a loaded model: an asynchronous context manager and iterator of events.

    With a ``transport`` the user's audio comes from there and the agent's goes there. Without one, push audio with
    :meth:`send` and end it with :meth:`finish` from another task, or iterate over :meth:`run`; ``sample_rate`` is that
    of the pushed audio (the model's own if left out). There is one consumer. :class:`duplex.Dialogue` says how a
    conversation begins and ends. Without ``audio_events`` the agent's voice goes to the transport alone, and there is
    no ``AgentAudio``.

    What only a conversation on a local model has: ``wait``, the seconds to wait for a free slot (0 if left out);
    ``recorder``, which receives every frame; ``state``, what :meth:`export` returned, to go on from there with its
    options.

    :raises UsageError: if ``model`` or ``transport`` is something else
    :raises CapacityError: on entering, if every place of the model is taken
    :raises ClosedError: on entering, if the model has been closed
    :raises StateError: if ``state`` is damaged
    """

    def __init__(
        self,
        model: Model,
        transport: Transport | None = None,
        *,
        options: SessionOptions | None = None,
        sample_rate: int | None = None,
        wait: float | None = None,
        state: bytes | None = None,
        recorder: Recorder | None = None,
        audio_events: bool = True,
    ) -> None:
        _check_model(model)
        check_transport(transport)
        spec = model.spec
        self.model = model
        self._saved = None if state is None else SavedConversation.from_bytes(state)
        decoder = StreamingDetokenizer(model.tokenizer, spec.text_padding, spec.text_end_of_padding)
        self._session = Session(spec, decoder, model.voice_activity(spec.sample_rate), audio_events=audio_events)
        self.session_id: str = secrets.token_hex(8)
        first = 0
        if self._saved is not None:
            self.session_id, first = self._saved.session_id, self._saved.sequence
            self._session.restore(self._saved.session, until=self.resume_at)
        self._realtime = transport is not None and transport.realtime
        queue = EventQueue(realtime=self._realtime, frame_duration=spec.frame_duration, first=first)
        super().__init__(transport, sample_rate or spec.sample_rate, queue)
        self._options = self._complete_options(options or SessionOptions())
        self._wait = wait
        self._recorder = recorder
        self._exports: list[_Export] = []

    async def _open(self) -> Sequence[Task]:
        self._wakeup = ThreadsafeNotifier()
        self._seat = await self._take_seat()
        self._listener = Listener(self._transport, self._seat, self.model.spec, self._report_late)
        self._emit(self._session.start(self.session_id, self.model.name, self._options.seed or 0))
        return self._listener.run, self._process_outcomes

    def _last_events(self, reason: EndReason) -> list[Event]:
        return self._session.finish(reason)

    def _release(self) -> None:
        """Free the slot, and wake whoever waits for an export."""
        self._seat.close()
        for export in self._exports:
            export.done.set()

    @property
    def resume_at(self) -> float:
        """Position in the user's audio to go on from, in seconds: 0, or where a saved conversation was exported."""
        if self._saved is None:
            return 0.0
        return self.model.spec.seconds(int(self._saved.slot.tensors["seat.index"][0]))

    async def export(self) -> bytes:
        """Save the conversation as it is at the next frame boundary; it goes on afterwards.

        ``Conversation(model, ..., state=saved)`` goes on from there, in this process or another. Audio that has been
        pushed but not processed by then is not part of it.

        :raises ClosedError: if the conversation is over
        """
        if self._over or not self._entered:
            raise ClosedError("the conversation is not going on; export it while it is")
        export = _Export()
        self._exports.append(export)
        self._event_taken.notify_all()
        self._seat.export()
        await export.done.wait()
        if export.error is not None:
            raise export.error
        if export.saved is None:
            raise ClosedError("the conversation ended before it could be exported")
        return await anyio.to_thread.run_sync(export.saved.to_bytes)

    def _complete_options(self, options: SessionOptions) -> SessionOptions:
        if self._saved is not None:
            return attrs.evolve(options, seed=self._saved.seed)
        if options.seed is None and self._realtime:
            options = attrs.evolve(options, seed=secrets.randbits(SEED_BITS))
        return options.with_defaults(self.model.defaults)

    async def _take_seat(self) -> Seat:
        """Take a free slot of the model, waiting for one as long as was asked."""
        vacancy = ThreadsafeNotifier()
        with self.model.engine.vacancies(vacancy.notify), anyio.move_on_after(self._wait or 0):
            while True:
                try:
                    return self._open_seat()
                except CapacityError:
                    await vacancy.wait()
        return self._open_seat()

    def _open_seat(self) -> Seat:
        slot = None if self._saved is None else self._saved.slot
        return self.model.engine.open(self._options, realtime=self._realtime, notify=self._wakeup.notify, state=slot)

    def _report_late(self, seconds: float) -> None:
        self._emit(self._session.lag(self._session.now, seconds, seconds, "user"))

    async def _process_outcomes(self) -> None:
        """Turn the model's results into events, and pass the agent's audio to the playback."""
        while not self._over:
            await self._wakeup.wait()
            self._listener.progress.notify_all()
            for outcome in self._seat.take():
                await self._process(outcome)

    async def _process(self, outcome: Outcome) -> None:
        match outcome:
            case Frame():
                await self._process_frame(outcome)
            case Skipped(at, behind, seconds):
                self._emit(self._session.lag(at, behind, seconds, "user"))
            case Exported(state):
                self._finish_export(self._exports.pop(0), state)
            case Finished():
                await self._playback.finish()
                self._end(EndReason.FINISHED)
            case Failed(error):
                raise error

    def _finish_export(self, export: _Export, state: SessionState | Exception) -> None:
        if isinstance(state, Exception):
            export.error = state
        else:
            sequence, seed = self._queue.next_sequence, self._options.seed or 0
            export.saved = SavedConversation(self.session_id, seed, sequence, self._session.state(), state)
        export.done.set()

    async def _process_frame(self, frame: Frame) -> None:
        # The agent's audio first: the detector takes a moment.
        dropped = 0 if frame.agent_pcm is None else await self._playback.play(frame.agent_pcm)
        activity = await self.model.detectors.detect(self._session.voice, frame)
        if self._recorder is not None:
            self._recorder.record(frame)
        self._emit(self._session.process(frame, activity))
        self._queue.pass_frame()
        if dropped:
            behind, lost = (self.model.spec.seconds(count) for count in (self._playback.LIVE_FRAMES, dropped))
            self._emit(self._session.lag(frame.at - behind, behind, lost, "agent"))
        # The task that exports may be the consumer, which takes no event until that is done.
        while self._queue.full and not self._exports:
            await self._event_taken.wait()


def _check_model(model: object) -> None:
    """Check that a conversation was given a loaded model.

    :raises UsageError: if not
    """
    if isinstance(model, str):
        raise UsageError(f"the model is the name {model!r}; load it: with duplex.load({model!r}) as model: ...")
    if not isinstance(model, Model):
        raise UsageError(f"the model is {type(model).__name__}, not a duplex.Model; give what duplex.load returned")
