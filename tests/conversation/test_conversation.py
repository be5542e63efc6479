"""Whole conversations on the fake model, on asyncio and trio: events, endings, limits, and nothing left behind."""

# ruff: noqa: PERF401 -- events are gathered one by one where the iterator is to raise
# ruff: noqa: PT012, SIM117 -- a conversation is a block, and what it raises comes out of the block
# ruff: noqa: ASYNC110 -- what is waited for happens on the inference thread, which has no event of this loop

import gc
import threading
import weakref

import anyio
import anyio.to_thread
import numpy as np
import pytest

import duplex
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
from duplex.conversation.playback import Playback
from duplex.conversation.session import EventQueue
from duplex.engine.seat import Seat
from duplex.errors import (
    AudioError,
    CapacityError,
    ClosedError,
    ConsumerTooSlow,
    ModelError,
    StateError,
    UsageError,
)
from duplex.testing import check_transport

pytestmark = pytest.mark.anyio

FRAME = 1920
DELAYS = [(0, 0, 1, 0, 1), (0, 0, 2, 0, 2)]


@pytest.fixture(autouse=True)
async def nothing_left_behind():
    """No task of a conversation survives a test."""
    yield
    left = [task.name for task in anyio.get_running_tasks()]
    assert not [name for name in left if "duplex" in name or "_guard" in name]


def ramp(frames, level=0.01):
    """Every frame at a level of its own."""
    return np.repeat(level * np.arange(1, frames + 1, dtype=np.float32), FRAME)


def loud(frames):
    return np.full(frames * FRAME, 0.1, np.float32)


def of(found, kind):
    return [event for event in found if isinstance(event, kind)]


def pcm_of(found):
    return np.concatenate([event.pcm for event in of(found, AgentAudio)])


def check_order(found, first=0):
    """What holds of every conversation that came to an end."""
    assert [event.sequence for event in found] == list(range(first, first + len(found)))
    assert isinstance(found[0], SessionStarted)
    assert isinstance(found[-1], SessionEnded)
    assert len(of(found, SessionStarted)) == len(of(found, SessionEnded)) == 1


def plain(found):
    """Events as comparable values."""
    return [(event.as_dict(), getattr(event, "pcm", np.zeros(0)).tobytes()) for event in found]


class Live(MemoryTransport):
    """A line in real time, whose microphone the test plays."""

    def __init__(self, **options):
        super().__init__(realtime=True, **options)


class Gate:
    """Holds the model back, from the inference thread, until it is opened."""

    def __init__(self):
        self.open = threading.Event()
        self.reached = threading.Event()

    def __call__(self, _step):
        self.reached.set()
        assert self.open.wait(30)


async def reached(event):
    assert await anyio.to_thread.run_sync(event.wait, 30)


def fail_at(number):
    def on_step(step):
        if step == number:
            raise RuntimeError("out of memory")

    return on_step


# --- events -----------------------------------------------------------------------------------------------------------


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


# --- audio in ---------------------------------------------------------------------------------------------------------


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
        await until(lambda: conversation._queue.full and len(conversation._seat.outbox) == Seat.RESULTS_LIMIT)
        await anyio.wait_all_tasks_blocked()
        # events, results, playback, frames that wait and the transport's 5 seconds
        held = EventQueue.OFFLINE_EVENTS + 2 * 32 + 60 + Listener.WAITING_FRAMES + 2 * 63
        assert sent < held
        assert len(conversation._queue._waiting) <= EventQueue.OFFLINE_EVENTS + 8
        found = [event async for event in conversation]
    check_order(found)
    assert len(of(found, AgentAudio)) == 1500
    assert not of(found, Lag)


async def test_misuse(models):
    model = models(capacity=3)
    early = Conversation(model)
    with pytest.raises(UsageError, match="enter"):
        await anext(early)
    with pytest.raises(UsageError, match="enter"):
        await early.send(loud(1))
    with pytest.raises(UsageError, match="enter"):
        early.run(loud(1))
    with pytest.raises(ClosedError):
        await early.export()
    async with Conversation(model, MemoryTransport(loud(1))) as conversation:
        with pytest.raises(UsageError, match="transport"):
            await conversation.send(loud(1))
        with pytest.raises(UsageError, match="transport"):
            await conversation.finish()
        with pytest.raises(UsageError, match="transport"):
            conversation.run(loud(1))
    with pytest.raises(UsageError, match="make another"):
        await conversation.__aenter__()
    async with Conversation(model) as conversation:
        with pytest.raises(AudioError, match="NaN"):
            await conversation.send(np.full(10, np.nan))
        with pytest.raises(AudioError, match="shape"):
            await conversation.send(np.zeros((2, 10)))
        await conversation.finish()
        with pytest.raises(ClosedError):
            await conversation.send(loud(1))
    with pytest.raises(ClosedError):
        await conversation.send(loud(1))
    with pytest.raises(ClosedError):
        await conversation.export()
    with pytest.raises(AudioError, match="rate"):
        Conversation(model, sample_rate=12)


# --- endings ----------------------------------------------------------------------------------------------------------


async def test_a_model_that_fails(models):
    found = []
    with pytest.raises(ModelError, match="out of memory") as caught:
        async with Conversation(models(on_step=fail_at(3))) as conversation:
            async for event in conversation.run(ramp(9)):
                found.append(event)
    assert isinstance(caught.value.__cause__, RuntimeError)
    check_order(found)
    assert found[-1].reason is EndReason.FAILED
    assert len(of(found, AgentAudio)) == 3
    with pytest.raises(StopAsyncIteration):
        await anext(conversation)


async def test_a_model_that_cannot_open(models):
    def on_open(_slot):
        raise MemoryError("none left")

    model = models(on_open=on_open)
    with pytest.raises(ModelError, match="none left"):
        async with Conversation(model) as conversation:
            async for _ in conversation.run(ramp(2)):
                pass
    assert model.free == 1


async def test_a_failure_with_a_sender_beside_is_one_error(models):
    """Whoever is still sending is not a second error."""

    async def push(conversation):
        while True:
            await conversation.send(loud(50))

    with pytest.raises(ExceptionGroup) as caught:
        async with Conversation(models(on_step=fail_at(30))) as conversation, anyio.create_task_group() as group:
            group.start_soon(push, conversation)
            async for _ in conversation:
                pass
    assert [type(error) for error in caught.value.exceptions] == [ModelError]


async def test_sending_first_to_a_model_that_fails_does_not_hang(models):
    async with Conversation(models(on_step=fail_at(0))) as conversation:
        for _ in range(20):
            await conversation.send(loud(25))
        await conversation.finish()
        with pytest.raises(ModelError):
            async for _ in conversation:
                pass


class Failing(MemoryTransport):
    def __init__(self, method, **options):
        super().__init__(ramp(5), **options)
        self.method = method
        self.closed = 0

    async def _maybe(self, method):
        await anyio.lowlevel.checkpoint()
        if method == self.method:
            raise OSError(f"the line is dead: {method}")

    async def start(self, sample_rate):
        await self._maybe("start")
        await super().start(sample_rate)

    async def receive(self):
        await self._maybe("receive")
        return await super().receive()

    async def send(self, pcm):
        await self._maybe("send")
        await super().send(pcm)

    async def finish(self):
        await self._maybe("finish")
        await super().finish()

    async def aclose(self):
        self.closed += 1
        await super().aclose()
        await self._maybe("aclose")


@pytest.mark.parametrize("realtime", [False, True])
@pytest.mark.parametrize("method", ["start", "receive", "send", "finish"])
async def test_a_transport_that_fails(models, method, realtime):
    transport, found = Failing(method, realtime=realtime), []
    with pytest.raises(OSError, match=method):
        async with Conversation(models(), transport) as conversation:
            async for event in conversation:
                found.append(event)
    check_order(found)
    assert found[-1].reason is EndReason.FAILED
    assert transport.closed == 1


async def test_a_transport_that_fails_to_close_leaves_nothing_behind(models):
    found = []
    with pytest.raises(OSError, match="aclose"):
        async with Conversation(models(), Failing("aclose")) as conversation:
            async for event in conversation:
                found.append(event)
    check_order(found)


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_break(models, after):
    transport = MemoryTransport(ramp(200))
    model = models()
    async with Conversation(model, transport) as conversation:
        async for event in conversation:
            if event.sequence == after:
                break
    assert not transport.finished
    with pytest.raises(StopAsyncIteration):
        await anext(conversation)
    assert model.free == 1


async def test_leaving_at_once(models):
    model = models()
    for _ in range(5):
        async with Conversation(model):
            pass
    assert model.free == 1


async def test_the_block_s_own_error_comes_out_as_it_is(models):
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with Conversation(models()) as conversation:
            await conversation.send(loud(3))
            raise error
    assert caught.value is error


@pytest.mark.parametrize("realtime", [False, True])
async def test_cancellation_from_outside(models, realtime):
    model, found = models(), []
    transport = MemoryTransport(realtime=realtime)
    async with anyio.create_task_group() as group:

        async def converse():
            async with Conversation(model, transport) as conversation:
                async for event in conversation:
                    found.append(event)

        group.start_soon(converse)
        await transport.feed(loud(4))
        while len(found) < 4:
            await anyio.sleep(0.001)
        group.cancel_scope.cancel()
    assert not of(found, SessionEnded)
    assert not transport.finished
    assert model.free == 1


async def test_cancellation_while_the_model_is_in_a_step(models):
    gate = Gate()
    model = models(on_step=gate)
    with anyio.CancelScope() as scope:
        async with Conversation(model) as conversation:
            await conversation.send(loud(3))
            await reached(gate.reached)
            scope.cancel()
            await anext(conversation)
    assert scope.cancelled_caught
    assert model.free == 1
    gate.open.set()


async def test_closing_the_model_while_conversations_go_on(models):
    model, ended = models(capacity=2), []

    async def converse():
        found = []
        async with Conversation(model) as conversation:
            await conversation.send(loud(2))
            try:
                async for event in conversation:
                    found.append(event)
            except ClosedError:
                ended.append(found)

    async with anyio.create_task_group() as group:
        group.start_soon(converse)
        group.start_soon(converse)
        while model.free:
            await anyio.sleep(0.001)
        await anyio.to_thread.run_sync(model.close)
    assert len(ended) == 2
    for found in ended:
        check_order(found)
        assert found[-1].reason is EndReason.FAILED
    with pytest.raises(ClosedError):
        async with Conversation(model):
            pass
    with pytest.raises(ClosedError):
        _ = model.codec


async def test_nothing_is_kept_alive(models):
    model = models()
    async with Conversation(model) as conversation:
        async for _ in conversation.run(ramp(3)):
            pass
    kept = weakref.ref(conversation)
    del conversation
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
        gc.collect()
    assert kept() is None


# --- places -----------------------------------------------------------------------------------------------------------


async def test_one_more_than_fits(models):
    model = models(capacity=2)
    async with Conversation(model), Conversation(model):
        assert model.free == 0
        with pytest.raises(CapacityError, match="wait"):
            async with Conversation(model):
                pass
        with pytest.raises(CapacityError):
            async with Conversation(model, wait=0.01):
                pass
    assert model.free == 2


async def test_waiting_for_a_place(models):
    model, order = models(), []

    async def wait_for_it():
        async with Conversation(model, wait=30) as conversation:
            order.append("in")
            async for _ in conversation.run(ramp(1)):
                pass

    async with anyio.create_task_group() as group:
        async with Conversation(model):
            group.start_soon(wait_for_it)
            await anyio.wait_all_tasks_blocked()
            order.append("out")
    assert order == ["out", "in"]


async def test_waiting_ends_when_the_model_is_closed(models):
    model = models()

    async def wait_for_it():
        with pytest.raises(ClosedError):
            async with Conversation(model, wait=1000):
                pass

    async with anyio.create_task_group() as group:
        async with Conversation(model) as conversation:
            group.start_soon(wait_for_it)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(model.close)
            with pytest.raises(ClosedError):
                async for _ in conversation:
                    pass


async def test_many_conversations_with_options_of_their_own(models):
    choices = [SessionOptions(seed=seed, top_k=seed % 3, temperature=seed / 4) for seed in range(6)]
    choices += [SessionOptions(seed=1, greedy=True)]

    async def converse(model, options):
        async with Conversation(model, options=options) as conversation:
            return plain([event async for event in conversation.run(ramp(12))][1:])

    alone = [await converse(models(), options) for options in choices]
    assert len({str(found) for found in alone}) == len(choices)
    together, model = {}, models(capacity=len(choices))

    async def one(index):
        together[index] = await converse(model, choices[index])

    async with anyio.create_task_group() as group:
        for index in range(len(choices)):
            group.start_soon(one, index)
    assert [together[index] for index in range(len(choices))] == alone


async def test_several_event_loops_share_a_model(models):
    """Both libraries' loops, in threads of their own, on one model."""
    model, answers = models(capacity=4), {}

    async def converse(index):
        for _ in range(5):
            async with Conversation(model, options=SessionOptions(seed=3)) as conversation:
                answers.setdefault(index, []).append(plain([event async for event in conversation.run(ramp(10))][1:]))

    threads = [
        threading.Thread(target=anyio.run, args=(converse, index), kwargs={"backend": ["asyncio", "trio"][index % 2]})
        for index in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join, 60)
        assert not thread.is_alive()
    assert sorted(answers) == [0, 1, 2, 3]
    assert all(answer == answers[0][0] for each in answers.values() for answer in each)


# --- seeds ------------------------------------------------------------------------------------------------------------


async def test_seeds(models):
    model = models()

    async def seed_of(transport=None, **options):
        async with Conversation(model, transport, options=SessionOptions(**options)) as conversation:
            return (await anext(conversation)).seed

    assert await seed_of() == 0
    assert await seed_of(seed=2**64 - 1) == 2**64 - 1
    assert await seed_of(Live(), seed=5) == 5
    drawn = {await seed_of(Live()) for _ in range(3)}
    assert len(drawn) == 3


async def test_a_live_conversation_replays_with_the_seed_it_told(models):
    model = models()
    async with Conversation(model, MemoryTransport(ramp(5), realtime=True)) as conversation:
        live = [event async for event in conversation]
    options = SessionOptions(seed=live[0].seed)
    async with Conversation(model, options=options) as conversation:
        replayed = [event async for event in conversation.run(ramp(5))]
    assert plain(of(live, AgentText)) == plain(of(replayed, AgentText))
    assert np.array_equal(pcm_of(live), pcm_of(replayed))


# --- real time --------------------------------------------------------------------------------------------------------


async def feed_frames(transport, recorded, frames, start=0):
    """Play frames into a live line, each after the last one has been answered."""
    for index in range(start, start + frames):
        await transport.feed(loud(1))
        while len(recorded) <= index:
            await anyio.sleep(0.0005)


class Kept:
    def __init__(self):
        self.frames = []

    def record(self, frame):
        self.frames.append(frame)


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
        while not conversation._seat.ending:
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


async def until(condition):
    while not condition():
        await anyio.sleep(0.001)


async def test_silence_stands_in_for_audio_that_stalls_and_a_late_burst_is_dropped(models, monkeypatch):
    clock, transport, kept = Clock(monkeypatch), Live(), Kept()
    async with Conversation(models(), transport, recorder=kept) as conversation:
        await until(lambda: transport._resampler is not None)
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
            await until(lambda: transport._resampler is not None)
            clock.now = 0.17  # nobody has spoken: one frame of silence
            await until(lambda: len(kept.frames) == 1)
            for _ in range(2):  # and now a burst, which is ahead of the clock by 70 ms
                await say()
            await until(lambda: len(kept.frames) == 3)
            for _ in range(10):
                clock.now += 0.08
                before = len(kept.frames) + conversation._seat.waiting
                await say()
                await until(lambda before=before: len(kept.frames) > before)
                assert conversation._listener._framer.pending == 0
            await transport.end()
            found = [event async for event in conversation]
    check_order(found)
    assert not of(found, Lag)


async def test_a_clock_that_jumps_is_a_lag_and_no_end(models, monkeypatch):
    """A laptop that slept for an hour goes on."""
    clock, transport, kept = Clock(monkeypatch), Live(), Kept()
    async with Conversation(models(), transport, recorder=kept) as conversation:
        await until(lambda: transport._resampler is not None)
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
        await until(lambda: transport._resampler is not None)
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


# --- offline pace -----------------------------------------------------------------------------------------------------


async def test_the_consumer_s_pace_holds_the_model_back(models):
    model = models()
    async with Conversation(model, MemoryTransport(loud(2000))) as conversation:
        found = [await anext(conversation)]
        await until(lambda: conversation._queue.full)
        await anyio.wait_all_tasks_blocked()
        done = model.engine.model.steps
        assert done <= EventQueue.OFFLINE_EVENTS + 2 * 32 + 2
        assert len(conversation._queue._waiting) <= EventQueue.OFFLINE_EVENTS + 8
        found += [event async for event in conversation]
    check_order(found)
    assert len(of(found, AgentAudio)) == 2000
    assert not of(found, Lag)


# --- export and restore -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delays", DELAYS)
@pytest.mark.parametrize("taken", [0, 1, 7, 24])
async def test_a_conversation_goes_on_elsewhere(models, delays, taken):
    random = np.random.default_rng(1)
    pcm = np.repeat(np.where(random.random(15) < 0.5, 0.1, 0.0).astype(np.float32), 2 * FRAME)
    options, kept = SessionOptions(seed=21), Kept()
    async with Conversation(models(delays=delays), options=options) as conversation:
        whole = [event async for event in conversation.run(pcm)]
    late = int(max(delays) > 1)
    async with Conversation(models(delays=delays), options=options, recorder=kept) as conversation:
        await conversation.send(pcm[: taken * FRAME])
        await until(lambda: len(kept.frames) == max(taken - late, 0))
        await until(lambda: conversation._seat.waiting == 0 and len(conversation._seat.in_flight) == min(late, taken))
        saved = await conversation.export()
        begun = []
        while conversation._queue._waiting:
            begun.append(await anext(conversation))
        session_id = conversation.session_id
    async with Conversation(models(delays=delays), state=saved) as conversation:
        assert conversation.session_id == session_id
        moved = [event async for event in conversation.run(pcm[taken * FRAME :])]
    assert moved[0].sequence == len(begun)
    assert (moved[0].session_id, moved[0].seed) == (session_id, 21)
    joined = begun + moved[1:]
    assert len(joined) == len(whole)
    ours, theirs = plain(joined)[1:], plain(whole)[1:]
    for (record, _), (expected, _) in zip(ours, theirs, strict=True):
        record.pop("sequence")
        expected.pop("sequence")
    assert ours == theirs
    assert [event.sequence for event in moved] == list(range(len(begun), len(begun) + len(moved)))


async def test_the_original_goes_on_after_an_export(models):
    async with Conversation(models()) as conversation:
        await conversation.send(ramp(20)[: 10 * FRAME])
        assert isinstance(await conversation.export(), bytes)
        await conversation.send(ramp(20)[10 * FRAME :])
        await conversation.finish()
        found = [event async for event in conversation]
    check_order(found)
    assert np.array_equal(pcm_of(found), ramp(20) * np.float32(0.5))


async def test_the_consumer_may_export_while_events_wait(models):
    """Nobody takes events meanwhile: a full queue must not hold the export up."""
    async with Conversation(models()) as conversation:
        stream = conversation.run(loud(1000))
        found = [await anext(stream)]
        await until(lambda: conversation._queue.full)
        saved = await conversation.export()
        found += [event async for event in stream]
    check_order(found)
    assert len(of(found, AgentAudio)) == 1000
    async with Conversation(models(), state=saved) as conversation:
        resumed = [event async for event in conversation.run(loud(1))]
    assert resumed[0].sequence > EventQueue.OFFLINE_EVENTS
    assert resumed[1].at == pytest.approx((resumed[0].sequence - 2) * 0.08, abs=20)


async def test_exports_end_with_the_conversation(models):
    gate = Gate()
    model = models(on_step=gate)

    async def export(conversation):
        with pytest.raises(ClosedError):
            await conversation.export()

    async with anyio.create_task_group() as group:
        async with Conversation(model) as conversation:
            await conversation.send(loud(1))
            await reached(gate.reached)
            group.start_soon(export, conversation)
            await anyio.wait_all_tasks_blocked()
    gate.open.set()


async def test_states_that_cannot_be_used(models):
    model = models()
    async with Conversation(model) as conversation:
        await conversation.send(loud(2))
        saved = await conversation.export()
    for damaged in (b"", b"nonsense", saved[:-7], saved[: len(saved) // 2]):
        with pytest.raises(StateError):
            Conversation(model, state=damaged)
    other = models(delays=(0, 0, 2, 0, 2))
    with pytest.raises(StateError, match="another model"):
        async with Conversation(other, state=saved) as conversation:
            async for _ in conversation.run(loud(1)):
                pass
    assert model.free == other.free == 1


# --- transports and models of third parties ---------------------------------------------------------------------------


async def test_the_transport_suite():
    pcm = ramp(12)
    await check_transport(lambda: MemoryTransport(pcm))
    await check_transport(lambda: MemoryTransport(pcm, realtime=True))


async def test_file_transport_conforms(tmp_path):
    from duplex.audio.wav import WavWriter  # noqa: PLC0415

    path = tmp_path / "in.wav"
    writer = WavWriter(path, channels=1, sample_rate=24000)
    writer.write(ramp(12))
    writer.commit()
    names = iter(range(99))
    await check_transport(lambda: duplex.FileTransport(path, tmp_path / f"{next(names)}.wav"))


class Endless(MemoryTransport):
    async def receive(self):
        await anyio.sleep_forever()


class Integers(MemoryTransport):
    async def receive(self):
        return (await super().receive()).astype(np.float64)


async def test_the_transport_suite_finds_faults():
    with pytest.raises(AssertionError, match="hangs"):
        await check_transport(lambda: Endless(ramp(3)), within=0.1)
    with pytest.raises(AssertionError, match="float64"):
        await check_transport(lambda: Integers(ramp(3)))
    with pytest.raises(AssertionError, match="says something"):
        await check_transport(lambda: MemoryTransport(np.zeros(0, np.float32)))


async def test_without_events_of_audio_the_transport_alone_has_the_voice(models):
    transport = MemoryTransport(loud(6))
    async with Conversation(models(), transport, audio_events=False) as conversation:
        found = [event async for event in conversation]
    assert not of(found, AgentAudio)
    assert [event.sequence for event in found] == list(range(len(found)))
    assert len(np.concatenate(transport.played)) == 6 * FRAME
