"""A conversation on a local model, as its users see it; :mod:`duplex.conversation.local_runner` runs it."""

import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.voices import Voices
from duplex.conversation.dialogue import Dialogue, check_transport
from duplex.conversation.local_runner import LocalRunner, Recorder
from duplex.conversation.saved import SavedConversation
from duplex.engine.model import Model
from duplex.errors import UsageError
from duplex.options import SessionOptions
from duplex.transcription.protocol import Transcriber
from duplex.transcription.words import placement_of
from duplex.transport import Transport

__all__ = ["Conversation", "Recorder"]


class Conversation(Dialogue):
    """One full-duplex conversation on a loaded model: an asynchronous context manager and iterator of events.

    With a ``transport`` the user's audio comes from there and the agent's goes there. Without one, push audio with
    :meth:`send` and end it with :meth:`finish` from another task, or iterate over :meth:`run`; ``sample_rate`` is that
    of the pushed audio (the model's own if left out). There is one consumer. :class:`duplex.Dialogue` says how a
    conversation begins and ends. Without ``audio_events`` the agent's voice goes to the transport alone, and there is
    no ``AgentAudio``.

    What only a conversation on a local model has: ``wait``, the seconds to wait for a free slot (0 if left out);
    ``recorder``, which receives every frame; ``state``, what :meth:`export` returned, to go on from there with its
    options, and ``continues``, with which it is still the same session: without another ``SessionStarted``, with events
    numbered from there, or from where they were if that is later; ``history``, known tokens int64 ``[streams, n]``
    (text, agent, user; one column a frame) that the conversation begins after; ``voices``, which alone
    ``options.voice`` may then name (without it, it may be a file too). A persona and a history are fed to the model on
    entering, before the first frame.

    ``transcriber`` gives the user's words, as ``UserText`` events beside the model's own: a
    :class:`duplex.WhisperTranscriber`, a :class:`duplex.SttTranscriber`, or what else implements
    :class:`duplex.Transcriber`. They come some time after they were said; the conversation's end waits for the last
    ones. A recognition model needs none.

    With ``flush_on_pause`` a recognition model hears silence when the user stops, as much as its words are late and as
    fast as it can, so that the last ones come at once (:class:`duplex.UserSpeechStopped` says when). Times are as
    without; words after a pause may differ. Audio that is not live then waits for each frame's events.

    :raises UsageError: if ``model``, ``transport``, ``history`` or ``transcriber`` is something else, or the model
        takes no persona, or has no words that come late
    :raises AudioFileError: on entering, if the voice cannot be read
    :raises CapacityError: on entering, if every place of the model is taken
    :raises ClosedError: on entering, if the model has been closed
    :raises StateError: if ``state`` is damaged
    """

    def __init__(  # noqa: PLR0913 -- what can be chosen about a conversation
        self,
        model: Model,
        transport: Transport | None = None,
        *,
        options: SessionOptions | None = None,
        sample_rate: int | None = None,
        wait: float | None = None,
        state: bytes | None = None,
        continues: int | None = None,
        recorder: Recorder | None = None,
        audio_events: bool = True,
        history: NDArray[np.int64] | None = None,
        voices: Voices | None = None,
        transcriber: Transcriber | None = None,
        flush_on_pause: bool = False,
    ) -> None:
        _check_model(model)
        if flush_on_pause and placement_of(model) is None:
            raise UsageError(f"{model.name} recognises no speech, so nothing is to flush; leave flush_on_pause out")
        _check_transcriber(model, transcriber)
        if state is not None and history is not None:
            raise UsageError("a saved conversation has a history of its own; leave history out")
        check_transport(transport)
        self.model = model
        self._saved = None if state is None else SavedConversation.from_bytes(state)
        self._local = LocalRunner(
            model,
            transport,
            options=options or SessionOptions(),
            sample_rate=sample_rate,
            wait=wait,
            saved=self._saved,
            continues=continues,
            recorder=recorder,
            audio_events=audio_events,
            history=history,
            voices=voices,
            transcriber=transcriber,
            flush_on_pause=flush_on_pause,
        )
        super().__init__(self._local)
        self.session_id: str = self._local.session_id

    @property
    def resume_at(self) -> float:
        """Position in the user's audio to go on from, in seconds: 0, or where a saved conversation was exported."""
        placement, spec = placement_of(self.model), self.model.spec
        lead = 0.0 if placement is None else placement.lead / spec.sample_rate
        return 0.0 if self._saved is None else max(self._saved.resume_at(spec) - lead, 0.0)

    async def export(self, *, halt: bool = False) -> bytes:
        """Save the conversation as it is at the next frame boundary; it goes on afterwards.

        ``Conversation(model, ..., state=saved)`` goes on from there, in this process or another. Audio that has been
        pushed but not processed by then is not part of it. With ``halt`` it stands still afterwards, until
        :meth:`go_on`, for whoever goes on with it elsewhere: all events before have been taken then, by another task,
        and all audio has been sent. Call :meth:`go_on` also after giving up waiting for it.

        :raises ClosedError: if the conversation is over
        """
        return await self._local.export(halt=halt)

    def go_on(self) -> None:
        """Go on after an ``export(halt=True)``; audio that came meanwhile is late, as after any delay."""
        self._local.go_on()


def _check_transcriber(model: Model, transcriber: object) -> None:
    """Check that a conversation was given a transcriber, or none.

    :raises UsageError: if not, or if the model itself gives the user's words
    """
    if transcriber is None:
        return
    if not isinstance(transcriber, Transcriber):
        raise UsageError(
            f"the transcriber is {type(transcriber).__name__}; give a duplex.WhisperTranscriber or a "
            "duplex.SttTranscriber"
        )
    if placement_of(model) is not None:
        raise UsageError(f"{model.name} recognises speech itself; leave the transcriber out")


def _check_model(model: object) -> None:
    """Check that a conversation was given a loaded model.

    :raises UsageError: if not
    """
    if isinstance(model, str):
        raise UsageError(f"the model is the name {model!r}; load it: with duplex.load({model!r}) as model: ...")
    if not isinstance(model, Model):
        raise UsageError(f"the model is {type(model).__name__}, not a duplex.Model; give what duplex.load returned")
