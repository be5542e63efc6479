"""Whole conversations on the fake model, on asyncio and trio: events, endings, limits, and nothing left behind."""

import anyio
import anyio.to_thread
import numpy as np
import pytest
from conversation_support import DELAYS, FRAME, check_order, loud, nothing_left_behind, of, pcm_of, ramp, until  # noqa: F401

from duplex import (
    AgentAudio,
    AgentSpeechStarted,
    AgentSpeechStopped,
    AgentText,
    Conversation,
    EndReason,
    Lag,
    MemoryTransport,
    SessionEnded,
    SessionOptions,
    SessionStarted,
    UserSpeechStarted,
    UserSpeechStopped,
)
from duplex.conversation.listening import Listener
from duplex.conversation.session import EventQueue
from duplex.engine.seat import Seat

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("delays", DELAYS)
async def test_n_frames_give_n_frames_sample_for_sample(models, delays):
    async with Conversation(models(delays=delays)) as conversation:
        found = [event async for event in conversation.run(ramp(9))]
    check_order(found)
    heard = of(found, AgentAudio)
    assert [event.at for event in heard] == [index * 0.08 for index in range(9)]
    assert np.array_equal(pcm_of(found), ramp(9) * np.float32(0.5))
    ended = found[-1]
    assert ended.reason is EndReason.FINISHED
    assert ended.at == pytest.approx(0.72)
    assert (ended.usage.frames, ended.usage.dropped_seconds) == (9, 0)
    assert ended.usage.seconds == pytest.approx(0.72)


async def test_the_first_event_says_what_goes_on(models):
    async with Conversation(models(), options=SessionOptions(seed=11)) as conversation:
        found = [event async for event in conversation.run(ramp(1))]
    started = found[0]
    assert (started.seed, started.model, started.at) == (11, "fake", 0)
    assert (started.sample_rate, started.frame_duration) == (24000, 0.08)
    assert started.session_id == conversation.session_id


async def test_text_at_the_frame_it_is_spoken_in(models):
    frames = []

    class Recorder:
        def record(self, frame):
            frames.append(frame)

    async with Conversation(models(), recorder=Recorder()) as conversation:
        found = [event async for event in conversation.run(ramp(60))]
    spoken = [(frame.at, frame.text) for frame in frames if frame.text > 3]
    assert spoken
    assert [(event.at, event.token) for event in of(found, AgentText)] == spoken
    for event in of(found, AgentText):
        assert event.text == (f"x{event.token}" if event.token % 2 else f" w{event.token}")


@pytest.mark.parametrize("delays", DELAYS)
async def test_the_recorder_is_told_both_sides_in_time(models, delays):
    frames = []

    class Recorder:
        def record(self, frame):
            frames.append(frame)

    async with Conversation(models(delays=delays), recorder=Recorder()) as conversation:
        async for _ in conversation.run(ramp(5)):
            pass
    assert [round(frame.at / 0.08) for frame in frames] == list(range(5))
    assert np.array_equal(np.concatenate([frame.user_pcm for frame in frames]), ramp(5))
    assert np.array_equal(np.concatenate([frame.agent_pcm for frame in frames]), ramp(5) * np.float32(0.5))
    codes = conversation.model.codec.encode(ramp(5))
    assert np.array_equal(np.stack([frame.user for frame in frames], axis=1), codes[:2])


async def test_a_recorder_that_fails_ends_the_conversation(models):
    class Recorder:
        def record(self, frame):
            raise OSError(f"disk full at {frame.at}")

    found = []
    with pytest.raises(OSError, match=r"disk full at 0\.0"):
        async with Conversation(models(), recorder=Recorder()) as conversation:
            async for event in conversation.run(ramp(5)):
                found.append(event)
    check_order(found)
    assert found[-1].reason is EndReason.FAILED


async def test_who_speaks_when(models):
    pcm = np.concatenate([np.zeros(4 * FRAME, np.float32), loud(6), np.zeros(12 * FRAME, np.float32)])
    async with Conversation(models()) as conversation:
        found = [event async for event in conversation.run(pcm)]
    speech = [event for event in found if "Speech" in type(event).__name__]
    assert {(type(event), round(event.at / 0.08)) for event in speech} == {
        (UserSpeechStarted, 4),
        (UserSpeechStopped, 10),
        (AgentSpeechStarted, 4),
        (AgentSpeechStopped, 10),
    }


async def test_without_agent_audio(models):
    transport = MemoryTransport(ramp(40))
    async with Conversation(models(agent_streams=0), transport) as conversation:
        found = [event async for event in conversation]
    check_order(found)
    assert not of(found, AgentAudio)
    assert of(found, AgentText)
    assert not transport.played
    assert found[-1].usage.frames == 40


async def test_no_audio_at_all(models):
    for delays in DELAYS:
        async with Conversation(models(delays=delays)) as conversation:
            await conversation.finish()
            found = [event async for event in conversation]
        assert [type(event) for event in found] == [SessionStarted, SessionEnded]


@pytest.mark.parametrize(
    "change",
    [
        np.asarray,
        lambda pcm: pcm.astype(np.float64),
        lambda pcm: np.rint(pcm * 32768).astype(np.int16),
        lambda pcm: pcm.tolist(),
    ],
)
async def test_kinds_of_arrays(models, change):
    pcm = np.repeat(np.arange(1, 5) / 64, FRAME).astype(np.float32)
    async with Conversation(models()) as conversation:
        found = [event async for event in conversation.run(change(pcm))]
    assert np.array_equal(pcm_of(found), pcm * np.float32(0.5))


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
async def test_other_sample_rates(models, rate):
    time = np.arange(rate) / rate
    async with Conversation(models(), sample_rate=rate) as conversation:
        found = [event async for event in conversation.run(0.4 * np.sin(2 * np.pi * 300 * time))]
    pcm = pcm_of(found)
    assert len(pcm) == 13 * FRAME
    expected = 0.2 * np.sin(2 * np.pi * 300 * np.arange(24000) / 24000)
    np.testing.assert_allclose(pcm[500:23000], expected[500:23000], atol=2e-3)


async def test_a_partial_last_frame_is_padded(models):
    async with Conversation(models()) as conversation:
        found = [event async for event in conversation.run(loud(3)[:-1900])]
    pcm = pcm_of(found)
    assert len(pcm) == 3 * FRAME
    assert (pcm[: 2 * FRAME + 20] == np.float32(0.1) * np.float32(0.5)).all()
    assert not pcm[2 * FRAME + 20 :].any()


async def test_pieces_of_any_length(models):
    pcm, random = ramp(20), np.random.default_rng(0)

    async def push(conversation):
        rest = pcm
        while rest.size:
            size = int(random.integers(0, 3000))
            await conversation.send(rest[:size])
            rest = rest[size:]
        await conversation.finish()

    async with Conversation(models()) as conversation, anyio.create_task_group() as group:
        group.start_soon(push, conversation)
        found = [event async for event in conversation]
    assert np.array_equal(pcm_of(found), pcm * np.float32(0.5))


async def test_sending_waits_while_seconds_are_pending(models):
    """With nobody who iterates, what is held stays bounded; afterwards nothing is missing."""
    sent = 0

    async def push(conversation):
        nonlocal sent
        for _ in range(60):
            await conversation.send(loud(25))
            sent += 25
        await conversation.finish()

    async with Conversation(models()) as conversation, anyio.create_task_group() as group:
        group.start_soon(push, conversation)
        await until(
            lambda: conversation._runner.queue.full and len(conversation._runner.seat.outbox) == Seat.RESULTS_LIMIT
        )
        await anyio.wait_all_tasks_blocked()
        # events, results, playback, frames that wait and the transport's 5 seconds
        held = EventQueue.OFFLINE_EVENTS + 2 * 32 + 60 + Listener.WAITING_FRAMES + 2 * 63
        assert sent < held
        assert len(conversation._runner.queue._waiting) <= EventQueue.OFFLINE_EVENTS + 8
        found = [event async for event in conversation]
    check_order(found)
    assert len(of(found, AgentAudio)) == 1500
    assert not of(found, Lag)
