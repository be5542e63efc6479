"""Live conversations: slow consumers, slow models, clocks, stalls and bursts."""

import anyio
import anyio.to_thread
import numpy as np
import pytest
from conversation_support import FRAME, Gate, Kept, Live, check_order, loud, nothing_left_behind, of, reached, until  # noqa: F401

from duplex import (
    AgentAudio,
    AgentText,
    Conversation,
    EndReason,
    Lag,
    MemoryTransport,
    SessionOptions,
)
from duplex.conversation.playback import Playback
from duplex.conversation.session import EventQueue
from duplex.errors import (
    CapacityError,
    ClosedError,
    ConsumerTooSlow,
)

pytestmark = pytest.mark.anyio


async def feed_frames(transport, recorded, frames, start=0):
    """Play frames into a live line, each after the last one has been answered."""
    for index in range(start, start + frames):
        await transport.feed(loud(1))
        while len(recorded) <= index:
            await anyio.sleep(0.0005)


@pytest.fixture
def still(monkeypatch):
    """A clock that stands still: no silence stands in."""
    monkeypatch.setattr("duplex.conversation.listening.LiveClock.silence_due", lambda *_: (0, 0))
    monkeypatch.setattr("duplex.conversation.listening.LiveClock.wait", lambda *_: 3600.0)


@pytest.mark.usefixtures("still")
async def test_a_slow_consumer_loses_old_audio_only(models):
    transport, kept = Live(), Kept()
    async with Conversation(models(), transport, recorder=kept, options=SessionOptions(seed=1)) as conversation:
        await feed_frames(transport, kept.frames, 150)
        await transport.end()
        found = [event async for event in conversation]
    check_order(found)
    heard, lags = of(found, AgentAudio), of(found, Lag)
    assert len(heard) == 62
    assert heard[-1].at == pytest.approx(149 * 0.08)
    assert {lag.side for lag in lags} == {"agent"}
    assert sum(lag.dropped for lag in lags) == pytest.approx((150 - 62) * 0.08)
    spoken = [frame for frame in kept.frames if frame.text > 3]
    assert [event.at for event in of(found, AgentText)] == [frame.at for frame in spoken]
    assert found[-1].usage.frames == 150
    assert found[-1].usage.dropped_seconds == 0
    # Playback never passes through the consumer's buffer.
    assert len(transport.played) == 150


@pytest.mark.usefixtures("still")
async def test_a_consumer_that_is_gone(models):
    transport, kept, found = Live(), Kept(), []
    async with Conversation(models(), transport, recorder=kept) as conversation:
        await feed_frames(transport, kept.frames, 376)
        with pytest.raises(ConsumerTooSlow):
            async for event in conversation:
                found.append(event)
    check_order(found)
    assert found[-1].reason is EndReason.CONSUMER_TOO_SLOW
    assert found[-1].at == pytest.approx(376 * 0.08)


@pytest.mark.usefixtures("still")
async def test_a_slow_model_skips_and_tells(models):
    gate, transport, kept = Gate(), Live(), Kept()
    async with Conversation(models(on_step=gate), transport, recorder=kept) as conversation:
        pcm = loud(12)
        pcm[5 * FRAME : 7 * FRAME] = 0
        await transport.feed(pcm[:FRAME])
        await reached(gate.reached)
        await transport.feed(pcm[FRAME:])
        await transport.end()
        while not conversation._runner.seat.ending:
            await anyio.sleep(0.001)
        gate.open.set()
        found = [event async for event in conversation]
    check_order(found)
    lags = of(found, Lag)
    assert {lag.side for lag in lags} == {"user"}
    dropped = sum(lag.dropped for lag in lags)
    heard = [round(event.at / 0.08) for event in of(found, AgentAudio)]
    assert heard[0] == 0
    assert heard[-1] == 11
    assert not {5, 6} & set(heard)
    assert dropped == pytest.approx((12 - len(heard)) * 0.08)
    usage = found[-1].usage
    assert usage.frames == len(heard)
    assert usage.dropped_seconds == pytest.approx(dropped)
    assert found[-1].at == pytest.approx(12 * 0.08)
    assert all(frame.user_pcm.any() for frame in kept.frames)


class Clock:
    """Stands in for anyio.current_time, as whoever listens sees it."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("duplex.conversation.listening.anyio", _Time(self))


class _Time:
    def __init__(self, clock):
        self.clock = clock

    def __getattr__(self, name):
        return getattr(anyio, name)

    def current_time(self):
        return self.clock.now

    async def sleep(self, _delay):
        await anyio.sleep(0.001)


async def test_silence_stands_in_for_audio_that_stalls_and_a_late_burst_is_dropped(models, monkeypatch):
    clock, transport, kept = Clock(monkeypatch), Live(), Kept()
    async with Conversation(models(), transport, recorder=kept) as conversation:
        await until(lambda: transport.started)
        for _ in range(3):
            clock.now += 0.08
            await transport.feed(loud(1))
            await until(lambda: transport.pending_seconds == 0)
        await until(lambda: len(kept.frames) == 3)
        clock.now += 0.16  # patience
        await anyio.sleep(0.02)
        assert len(kept.frames) == 3
        for step in range(1, 6):  # the agent does not freeze
            clock.now += 0.08
            await until(lambda step=step: len(kept.frames) == 3 + step)
        assert not any(frame.user_pcm.any() for frame in kept.frames[3:])
        # All seven frames that the network held back come at once: five were stood in for, two are heard.
        await transport.feed(loud(7)[: 5 * FRAME])
        await until(lambda: transport.pending_seconds == 0)
        await transport.feed(loud(7)[5 * FRAME :])
        await transport.end()
        found = [event async for event in conversation]
    check_order(found)
    assert [bool(frame.user_pcm.any()) for frame in kept.frames] == [True] * 3 + [False] * 5 + [True] * 2
    lags = of(found, Lag)
    assert {lag.side for lag in lags} == {"user"}
    assert sum(lag.dropped for lag in lags) == pytest.approx(5 * 0.08)
    assert found[-1].usage.dropped_seconds == pytest.approx(5 * 0.08)


async def test_after_a_late_burst_every_packet_is_answered_at_once(models, monkeypatch):
    """What came late is no whole number of frames; no frame may have to wait for the caller's next packet for that."""
    clock, transport, kept = Clock(monkeypatch), Live(), Kept()

    async def say():
        await transport.feed(loud(1))
        await until(lambda: transport.pending_seconds == 0)

    with anyio.fail_after(20):
        async with Conversation(models(), transport, recorder=kept) as conversation:
            await until(lambda: transport.started)
            clock.now = 0.17  # nobody has spoken: one frame of silence
            await until(lambda: len(kept.frames) == 1)
            for _ in range(2):  # and now a burst, which is ahead of the clock by 70 ms
                await say()
            await until(lambda: len(kept.frames) == 3)
            for _ in range(10):
                clock.now += 0.08
                before = len(kept.frames) + conversation._runner.seat.waiting
                await say()
                await until(lambda before=before: len(kept.frames) > before)
                assert conversation._runner.listener._framer.pending == 0
            await transport.end()
            found = [event async for event in conversation]
    check_order(found)
    assert not of(found, Lag)


async def test_a_clock_that_jumps_is_a_lag_and_no_end(models, monkeypatch):
    """A laptop that slept for an hour goes on."""
    clock, transport, kept = Clock(monkeypatch), Live(), Kept()
    async with Conversation(models(), transport, recorder=kept) as conversation:
        await until(lambda: transport.started)
        clock.now += 0.08
        await transport.feed(loud(1))
        await until(lambda: len(kept.frames) == 1)
        clock.now += 3600
        await until(lambda: len(kept.frames) > 1)
        await transport.end()
        found = [event async for event in conversation]
    check_order(found)
    assert found[-1].reason is EndReason.FINISHED
    assert len(kept.frames) <= 14
    lags = of(found, Lag)
    assert len(lags) <= 3
    assert found[-1].at == pytest.approx(3600, abs=1)
    assert sum(lag.dropped for lag in lags) == pytest.approx(3600 - len(kept.frames) * 0.08, abs=1)


async def test_a_refused_conversation_closes_its_transport(models):
    model, transport = models(), Live()
    async with Conversation(model):
        with pytest.raises(CapacityError):
            await Conversation(model, transport).__aenter__()
    with pytest.raises(ClosedError):
        await transport.feed(loud(1))


async def test_a_mute_that_ends_is_heard(models, monkeypatch):
    clock, transport, kept = Clock(monkeypatch), Live(), Kept()
    async with Conversation(models(), transport, recorder=kept) as conversation:
        await until(lambda: transport.started)
        for step in range(1, 20):
            clock.now = 0.16 + step * 0.08 - 0.01
            await until(lambda step=step: len(kept.frames) == step)
        for _ in range(5):
            await transport.feed(loud(1))
            await until(lambda: transport.pending_seconds == 0)
            clock.now += 0.08
        await transport.end()
        found = [event async for event in conversation]
    assert not of(found, Lag)
    assert sum(bool(frame.user_pcm.any()) for frame in kept.frames) == 5


async def test_offline_audio_never_gets_silence(models, monkeypatch):
    clock, kept = Clock(monkeypatch), Kept()
    async with Conversation(models(), recorder=kept) as conversation:
        await conversation.send(loud(2))
        clock.now = 1000.0
        await until(lambda: len(kept.frames) == 2)
        await conversation.send(loud(2))
        await conversation.finish()
        found = [event async for event in conversation]
    assert len(of(found, AgentAudio)) == 4
    assert not of(found, Lag)


class Busy(Live):
    """A line whose loudspeaker is stuck until it is let go."""

    def __init__(self):
        super().__init__()
        self.free = anyio.Event()

    async def send(self, pcm):
        await self.free.wait()
        await super().send(pcm)


@pytest.mark.usefixtures("still")
async def test_a_stuck_loudspeaker_holds_no_event_up(models):
    transport, kept, found = Busy(), Kept(), []
    async with Conversation(models(), transport, recorder=kept) as conversation, anyio.create_task_group() as group:

        async def consume():
            async for event in conversation:
                found.append(event)

        group.start_soon(consume)
        await feed_frames(transport, kept.frames, 80)
        await transport.end()
        await until(lambda: len(of(found, AgentAudio)) == 80)
        transport.free.set()
    check_order(found)
    lost = 80 - len(transport.played)
    assert Playback.LEFT_FRAMES <= len(transport.played) - 1 <= Playback.LIVE_FRAMES, "and the one that was stuck"
    # What is heard then is not late.
    assert np.array_equal(transport.played[-1], of(found, AgentAudio)[-1].pcm)
    lags = of(found, Lag)
    assert {lag.side for lag in lags} == {"agent"}
    assert sum(lag.dropped for lag in lags) == pytest.approx(lost * 0.08)


async def test_the_consumer_s_pace_holds_the_model_back(models):
    model = models()
    async with Conversation(model, MemoryTransport(loud(2000))) as conversation:
        found = [await anext(conversation)]
        await until(lambda: conversation._runner.queue.full)
        await anyio.wait_all_tasks_blocked()
        done = model.engine.model.steps
        assert done <= EventQueue.OFFLINE_EVENTS + 2 * 32 + 2
        assert len(conversation._runner.queue._waiting) <= EventQueue.OFFLINE_EVENTS + 8
        found += [event async for event in conversation]
    check_order(found)
    assert len(of(found, AgentAudio)) == 2000
    assert not of(found, Lag)
