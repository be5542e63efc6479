"""Detectors are asked beside the event loops, together, and each hears only its own conversation."""

import anyio
import numpy as np
import pytest

from duplex.audio.pcm import SILENCE_DBFS, level_dbfs
from duplex.engine import detector_worker
from duplex.engine.detector_worker import DetectorWorker
from duplex.errors import ClosedError
from duplex.frame_model import Frame
from duplex.testing import LevelVoiceActivity
from duplex.voice_activity.silero import SileroVoiceActivity

pytestmark = pytest.mark.anyio


def frame(pcm, agent=None):
    empty = np.zeros(0, np.int64)
    return Frame(at=0.0, user_pcm=pcm, agent_pcm=agent, text=0, agent=empty, user=empty)


def talk(seed, frames=12):
    generator = np.random.default_rng(seed)
    return [frame(generator.normal(0, 0.1, 1920).astype(np.float32)) for _ in range(frames)]


@pytest.fixture
def detectors():
    made = DetectorWorker()
    yield made
    made.close()


class Broken(LevelVoiceActivity):
    def hear(self, frame):
        raise ArithmeticError(f"cannot hear {frame.at}")


def test_together_is_as_alone():
    """Their windows do not come in step: frames are not whole windows."""
    together = [SileroVoiceActivity(24000) for _ in range(5)]
    alone = [SileroVoiceActivity(24000) for _ in range(5)]
    talks = [talk(seed) for seed in range(5)]
    for ahead in range(5):  # each has heard another number of frames before
        for each in talks[ahead][:ahead]:
            together[ahead].hear(each)
            alone[ahead].hear(each)
    for index in range(5, 12):
        found = SileroVoiceActivity.hear_batch([(together[n], talks[n][index]) for n in range(5)])
        for n in range(5):
            np.testing.assert_allclose(found[n], alone[n].hear(talks[n][index]), atol=1e-6)
    assert len({len(each) for each in found}) == 2


async def test_many_at_a_time_get_their_own(detectors):
    found = {}

    async def converse(seed):
        voice = SileroVoiceActivity(24000)
        found[seed] = [p for each in talk(seed) for p in (await detectors.detect(voice, each)).probabilities]

    async with anyio.create_task_group() as tasks:
        for seed in range(20):
            tasks.start_soon(converse, seed)
    for seed in range(20):
        voice = SileroVoiceActivity(24000)
        np.testing.assert_allclose(found[seed], [p for each in talk(seed) for p in voice.hear(each)], atol=1e-5)


async def test_the_agent_s_level_comes_with_it(detectors):
    loud = np.full(1920, 0.1, np.float32)
    voice = SileroVoiceActivity(24000)
    assert (await detectors.detect(voice, frame(loud, agent=loud))).agent_level == level_dbfs(loud)
    assert (await detectors.detect(voice, frame(loud))).agent_level == SILENCE_DBFS


async def test_what_one_raises_is_raised_there_alone(detectors):
    failed, heard = [], []

    async def ask(voice):
        try:
            heard.append(await detectors.detect(voice, frame(np.full(1920, 0.1, np.float32))))
        except ArithmeticError as error:
            failed.append(error)

    async with anyio.create_task_group() as tasks:
        for voice in (Broken(24000), LevelVoiceActivity(24000), SileroVoiceActivity(24000), Broken(24000)):
            tasks.start_soon(ask, voice)
    assert len(failed) == 2
    assert sorted(len(each.probabilities) for each in heard) == [1, 2]  # a resampler is late


async def test_who_is_cancelled_leaves_nothing_behind(detectors):
    voice = SileroVoiceActivity(24000)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await detectors.detect(voice, talk(0)[0])
    assert (await detectors.detect(voice, talk(0)[1])).probabilities
    assert not detectors._waiting


async def test_after_the_end_it_says_so(detectors):
    detectors.close()
    with pytest.raises(ClosedError, match="closed"):
        await detectors.detect(LevelVoiceActivity(24000), talk(0)[0])


async def test_the_patient_wait_for_each_other_and_nobody_else_does(detectors, monkeypatch):
    """With a long moment, all who come after the first batch are one batch; one in a hurry does not wait for it."""
    monkeypatch.setattr(detector_worker, "GATHER_SECONDS", 0.3)
    batches, run = [], DetectorWorker._run
    monkeypatch.setattr(
        DetectorWorker, "_run", lambda self, requests: (batches.append(len(requests)), run(self, requests))[1]
    )

    async def ask(patient):
        await detectors.detect(LevelVoiceActivity(24000), talk(0)[0], patient=patient)

    await ask(patient=True)  # alone after a pause: at once
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(lambda: ask(patient=True))
    assert batches == [1, 5]
    monkeypatch.setattr(detector_worker, "GATHER_SECONDS", 3600.0)
    with anyio.fail_after(60):
        await ask(patient=False)
    assert batches == [1, 5, 1]
