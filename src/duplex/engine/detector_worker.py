"""Voice activity and levels of many conversations' frames, computed in a thread beside their event loops."""

import copy
import time
from collections import deque
from collections.abc import Sequence

import attrs

from duplex.audio.pcm import SILENCE_DBFS, level_dbfs
from duplex.engine.workers import Workers
from duplex.frame_model import Frame
from duplex.voice_activity.protocol import FrameActivity, VoiceActivity
from duplex.voice_activity.silero import SileroVoiceActivity
from duplex.voice_activity.silero_network import SileroNetwork

__all__ = ["DetectorWorker"]

GATHER_SECONDS = 0.01
"""From the beginning of a batch to that of the next, if nobody is in a hurry: a batch of four costs as much as two of
one do, and with many live calls there is a frame every few milliseconds."""
CLOSE_SECONDS = 5.0
"""Seconds to wait for the last detector when closing."""


@attrs.define(eq=False)
class _Request:
    voice: VoiceActivity
    frame: Frame
    patient: bool
    result: FrameActivity | None = None
    error: Exception | None = None


class DetectorWorker:
    """One thread that runs detectors; waiting requests of detectors with one network are run as one batch."""

    def __init__(self) -> None:
        self._workers = Workers("duplex-detector", 1)
        self._workers.start()
        self._waiting: deque[_Request] = deque()
        self._began = -GATHER_SECONDS

    async def detect(self, voice: VoiceActivity, frame: Frame, *, patient: bool = False) -> FrameActivity:
        """Run a detector on the user's side of a frame; return its probabilities, and the level of the agent's side.

        One that is ``patient``, as in a conversation whose next frame is long in coming, waits a moment for others.

        :raises ClosedError: if the model has been closed
        """
        request = _Request(voice, frame, patient)
        self._waiting.append(request)
        return await self._workers.run(self._result, request)

    def close(self) -> None:
        """Stop the thread when it has run what waits."""
        self._workers.close(CLOSE_SECONDS)

    def _result(self, request: _Request) -> FrameActivity:
        """Run all waiting requests, unless this one was in an earlier batch."""
        if request.result is None and request.error is None:
            self._gather()
            self._run([self._waiting.popleft() for _ in range(len(self._waiting))])
        if request.result is None:
            raise request.error or RuntimeError("the detector has not been run")
        return request.result

    def _gather(self) -> None:
        """Let a moment pass since the last batch began, so that more come together."""
        early = self._began + GATHER_SECONDS - time.monotonic()
        if early > 0 and all(request.patient for request in list(self._waiting)):
            time.sleep(early)
        self._began = time.monotonic()

    def _run(self, requests: Sequence[_Request]) -> None:
        batches: dict[SileroNetwork, list[tuple[SileroVoiceActivity, _Request]]] = {}
        for request in requests:
            if type(request.voice) is SileroVoiceActivity:  # a subclass may compute something else
                batches.setdefault(request.voice.network, []).append((request.voice, request))
                continue
            try:
                request.result = _activity(request, request.voice.hear(request.frame))
            except Exception as error:  # noqa: BLE001 -- raised to whoever awaits it
                request.error = error
        for batch in batches.values():
            _run_batch(batch)


def _run_batch(batch: Sequence[tuple[SileroVoiceActivity, _Request]]) -> None:
    try:
        results = SileroVoiceActivity.hear_batch([(voice, request.frame) for voice, request in batch])
    except Exception as error:  # noqa: BLE001 -- as above
        for _, request in batch:
            request.error = copy.copy(error)  # each caller raises its own
        return
    for (_, request), probabilities in zip(batch, results, strict=True):
        try:
            request.result = _activity(request, probabilities)
        except Exception as error:  # noqa: BLE001 -- this request's alone
            request.error = error


def _activity(request: _Request, probabilities: Sequence[float]) -> FrameActivity:
    pcm = request.frame.agent_pcm
    return FrameActivity(probabilities, SILENCE_DBFS if pcm is None else level_dbfs(pcm))
