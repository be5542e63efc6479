"""Who speaks in the frames of many conversations: asked beside their event loops."""

import copy
from collections import deque
from collections.abc import Sequence

import attrs

from duplex.audio.pcm import SILENCE_DBFS, level_dbfs
from duplex.engine.workers import Workers
from duplex.frame_model import Frame
from duplex.voice_activity.protocol import FrameActivity, VoiceActivity
from duplex.voice_activity.silero import SileroVoiceActivity
from duplex.voice_activity.silero_network import SileroNetwork

__all__ = ["Detecting"]

CLOSE_SECONDS = 5.0
"""That the last detector may take."""


@attrs.define(eq=False)
class _Question:
    voice: VoiceActivity
    frame: Frame
    answer: FrameActivity | None = None
    error: Exception | None = None


class Detecting:
    """One thread that asks detectors; those of one network that wait are asked together."""

    def __init__(self) -> None:
        self._workers = Workers("duplex-detecting", 1)
        self._workers.start()
        self._waiting: deque[_Question] = deque()

    async def hear(self, voice: VoiceActivity, frame: Frame) -> FrameActivity:
        """Return what a detector makes of the user's side of a frame, and the level of the agent's.

        :raises ClosedError: if the model has been closed
        """
        question = _Question(voice, frame)
        self._waiting.append(question)
        return await self._workers.run(self._answered, question)

    def close(self) -> None:
        """End the thread, once it has answered."""
        self._workers.close(CLOSE_SECONDS)

    def _answered(self, question: _Question) -> FrameActivity:
        """Answer all that wait, unless this one was among those who did before."""
        if question.answer is None and question.error is None:
            self._answer([self._waiting.popleft() for _ in range(len(self._waiting))])
        if question.answer is None:
            raise question.error or RuntimeError("nobody has answered")
        return question.answer

    def _answer(self, questions: Sequence[_Question]) -> None:
        together: dict[SileroNetwork, list[tuple[SileroVoiceActivity, _Question]]] = {}
        for question in questions:
            if type(question.voice) is SileroVoiceActivity:  # one that was derived from it may hear otherwise
                together.setdefault(question.voice.network, []).append((question.voice, question))
                continue
            try:
                question.answer = _heard(question, question.voice.hear(question.frame))
            except Exception as error:  # noqa: BLE001 -- raised where it was asked for
                question.error = error
        for asked in together.values():
            _ask_together(asked)


def _ask_together(asked: Sequence[tuple[SileroVoiceActivity, _Question]]) -> None:
    try:
        answers = SileroVoiceActivity.hear_batch([(voice, question.frame) for voice, question in asked])
    except Exception as error:  # noqa: BLE001 -- as above
        for _, question in asked:
            question.error = copy.copy(error)  # each is raised in a place of its own
        return
    for (_, question), answer in zip(asked, answers, strict=True):
        question.answer = _heard(question, answer)


def _heard(question: _Question, probabilities: Sequence[float]) -> FrameActivity:
    pcm = question.frame.agent_pcm
    return FrameActivity(probabilities, SILENCE_DBFS if pcm is None else level_dbfs(pcm))
