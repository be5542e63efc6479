"""One conversation's events, and the queue that numbers them."""

import attrs
import numpy as np
import pytest

from duplex import events
from duplex.audio.pcm import SILENCE_DBFS, level_dbfs
from duplex.checkpoints.tokenizer import StreamingDetokenizer
from duplex.conversation.session import EventQueue, Session
from duplex.errors import ConsumerTooSlow, StateError
from duplex.frame_model import Frame
from duplex.testing import FakeFrameModel, FakeTokenizer, LevelVoiceActivity
from duplex.voice_activity.protocol import FrameActivity

PADDING, WORD, ENDING = 3, 8, 9


def session(**options):
    spec = FakeFrameModel(**options).spec
    decoder = StreamingDetokenizer(FakeTokenizer(32), spec.text_padding, spec.text_end_of_padding)
    return Session(spec, decoder, LevelVoiceActivity(spec.sample_rate))


def frame(index, *, user=0.0, agent=0.0, text=PADDING):
    tokens = np.zeros(2, np.int64)
    voice = None if agent is None else np.full(1920, agent, np.float32)
    pcm = np.full(1920, user, np.float32)
    return Frame(at=index * 0.08, user_pcm=pcm, agent_pcm=voice, text=text, agent=tokens, user=tokens)


def heard(held, each):
    return FrameActivity(held.voice.hear(each), SILENCE_DBFS if each.agent_pcm is None else level_dbfs(each.agent_pcm))


def kinds(found):
    return [type(event) for event in found]


def hear(held, frames):
    return [event for each in frames for event in held.process(each, heard(held, each))]


def of(found, kind):
    return [event for event in found if isinstance(event, kind)]


def test_start_and_finish():
    held = session()
    (started,) = held.start("s", "fake", 9)
    assert (started.session_id, started.model, started.seed) == ("s", "fake", 9)
    assert (started.at, started.sample_rate, started.frame_duration) == (0, 24000, 0.08)
    hear(held, [frame(index) for index in range(3)])
    held.lag(0.4, 0.5, 0.16, "user")
    held.lag(0.4, 0.5, 0.32, "agent")
    (ended,) = held.finish(events.EndReason.FINISHED)
    assert ended.at == pytest.approx(0.24)
    assert ended.usage.frames == 3
    assert ended.usage.seconds == pytest.approx(0.24)
    assert ended.usage.dropped_seconds == 0.16


def test_every_frame_gives_audio_silent_ones_too():
    found = hear(session(), [frame(index) for index in range(4)])
    assert kinds(found) == [events.AgentAudio] * 4
    assert [event.at for event in found] == [index * 0.08 for index in range(4)]


def test_text():
    tokens = [PADDING, WORD, ENDING, 0, 1, 2, WORD]
    found = of(hear(session(), [frame(i, text=token) for i, token in enumerate(tokens)]), events.AgentText)
    assert [(event.text, event.token, round(event.at / 0.08)) for event in found] == [
        (" w8", WORD, 1),
        ("x9", ENDING, 2),
        (" w8", WORD, 6),
    ]


def test_without_an_agent_there_is_no_audio_and_no_speech_of_its():
    found = hear(session(agent_streams=0), [frame(i, agent=None, text=WORD) for i in range(8)])
    assert kinds(found) == [events.AgentText] * 8


def test_agent_speech():
    levels = [0.0, 0.1, 0.0, 0.1, 0.1, *[0.0] * 5, 0.1, 0.1]
    found = hear(session(), [frame(i, agent=level) for i, level in enumerate(levels)])
    speech = [event for event in found if "Speech" in type(event).__name__]
    assert kinds(speech) == [events.AgentSpeechStarted, events.AgentSpeechStopped, events.AgentSpeechStarted]
    assert [round(event.at / 0.08) for event in speech] == [1, 5, 10]


def test_user_speech():
    levels = [0.0] * 3 + [0.1] * 4 + [0.0] * 8
    found = hear(session(), [frame(i, user=level) for i, level in enumerate(levels)])
    started, stopped = (event for event in found if "UserSpeech" in type(event).__name__)
    assert isinstance(started, events.UserSpeechStarted)
    assert isinstance(stopped, events.UserSpeechStopped)
    assert (started.at, stopped.at) == (pytest.approx(0.24), pytest.approx(0.56))
    assert (started.probability, stopped.probability) == (1, 0)


def test_a_skipped_stretch_moves_the_time_line():
    held = session()
    hear(held, [frame(0), frame(1)])
    found = hear(held, [frame(i, user=0.1) for i in range(10, 14)])
    (started,) = of(found, events.UserSpeechStarted)
    assert started.at == pytest.approx(0.8)
    assert held.now == pytest.approx(14 * 0.08)


def test_state_goes_on():
    random = np.random.default_rng(0)
    levels = np.repeat(random.random((40, 2)) < 0.5, 3, axis=0) * 0.1
    frames = [
        frame(i, user=user, agent=agent, text=int(random.choice([PADDING, WORD, ENDING])))
        for i, (user, agent) in enumerate(levels)
    ]
    whole = session()
    expected = hear(whole, frames)
    for at in (0, 1, 50, 77, 119):
        first, second = session(), session()
        found = hear(first, frames[:at])
        second.restore({name: np.array(value) for name, value in first.state().items()})
        found += hear(second, frames[at:])
        assert [repr(event) for event in found] == [repr(event) for event in expected]
        assert second.finish(events.EndReason.FINISHED) == whole.finish(events.EndReason.FINISHED)


def test_damaged_state():
    state = session().state()
    for name in ("turns", "counts", "text", "agent.recent", "voice.pending"):
        with pytest.raises(StateError):
            session().restore({key: value for key, value in state.items() if key != name})
    with pytest.raises(StateError):
        session().restore({**state, "turns": np.zeros(2)})


def audio(index):
    return events.AgentAudio(sequence=-1, at=index * 0.08, pcm=np.zeros(1920, np.float32))


def text(index):
    return events.AgentText(sequence=-1, at=index * 0.08, text=" w", token=8)


def drain(queue):
    found = []
    while (event := queue.take()) is not None:
        found.append(event)
    return found


def test_numbers_have_no_gaps():
    queue = EventQueue(realtime=True, frame_duration=0.08, first=5)
    for index in range(10):
        queue.put(audio(index))
    assert queue.next_sequence == 15
    assert [event.sequence for event in drain(queue)] == list(range(5, 15))
    queue.put(text(11))
    assert queue.take().sequence == 15
    assert queue.take() is None


def test_a_slow_consumer_loses_the_oldest_audio_and_nothing_else():
    queue = EventQueue(realtime=True, frame_duration=0.08)
    for index in range(200):
        queue.put(audio(index))
        if index % 10 == 0:
            queue.put(text(index))
    found = drain(queue)
    assert [event.sequence for event in found] == list(range(len(found)))
    heard = of(found, events.AgentAudio)
    assert len(heard) == int(queue.AUDIO_SECONDS / 0.08)
    assert [round(event.at / 0.08) for event in heard] == list(range(200 - len(heard), 200))
    assert len(of(found, events.AgentText)) == 20
    lags = of(found, events.Lag)
    assert {lag.side for lag in lags} == {"agent"}
    assert sum(lag.dropped for lag in lags) == pytest.approx((200 - len(heard)) * 0.08)
    assert lags[0].at == 0
    assert len(lags) == 15  # one for each stretch between other events
    positions = [(event.at, type(event).__name__) for event in found]
    assert positions == sorted(positions, key=lambda place: place[0])


def test_a_consumer_that_is_gone():
    queue = EventQueue(realtime=True, frame_duration=0.08)
    with pytest.raises(ConsumerTooSlow, match="30 seconds"):
        for index in range(1000):
            queue.pass_frame()
            queue.put(audio(index))
    assert index == 376
    queue.put(events.SessionEnded(sequence=-1, at=index * 0.08, reason="x", usage=None))
    assert isinstance(drain(queue)[-1], events.SessionEnded)


def test_a_consumer_that_is_gone_is_seen_without_audio_too():
    queue = EventQueue(realtime=True, frame_duration=0.08)
    queue.put(text(0))
    with pytest.raises(ConsumerTooSlow):
        for _ in range(1000):
            queue.pass_frame()


def test_a_jump_of_the_time_line_is_not_the_consumer_s():
    queue = EventQueue(realtime=True, frame_duration=0.08)
    for index in (0, 1, 10_000, 10_001):
        queue.pass_frame()
        queue.put(audio(index))
    assert len(drain(queue)) == 4


def test_a_consumer_that_takes_now_and_then_is_not_gone():
    queue = EventQueue(realtime=True, frame_duration=0.08)
    for index in range(2000):
        queue.pass_frame()
        queue.put(audio(index))
        if index % 300 == 299:
            drain(queue)


def test_offline_nothing_is_dropped():
    queue = EventQueue(realtime=False, frame_duration=0.08)
    for index in range(1000):
        assert queue.full == (index >= queue.OFFLINE_EVENTS)
        queue.put(audio(index))
    assert kinds(drain(queue)) == [events.AgentAudio] * 1000
    assert not queue.full


def test_clear():
    queue = EventQueue(realtime=True, frame_duration=0.08)
    for index in range(100):
        queue.put(audio(index))
    queue.clear()
    assert queue.take() is None
    queue.put(attrs.evolve(audio(500)))
    assert kinds(drain(queue)) == [events.AgentAudio]
