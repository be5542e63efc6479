"""Slots, steps and the one inference thread, without an event loop."""

import threading

import attrs
import numpy as np
import pytest

from duplex.engine.engine import Engine
from duplex.engine.seat import Exported, Failed, Finished, Seat, Skipped
from duplex.errors import CapacityError, ClosedError, ModelError, StateError
from duplex.frame_model import Frame, SessionState
from duplex.options import SessionOptions
from duplex.testing import FakeFrameModel

OPTIONS = SessionOptions(temperature=0.8, text_temperature=0.7, top_k=0, text_top_k=0, seed=5)
LOUD = np.full(1920, 0.1, np.float32)
QUIET = np.zeros(1920, np.float32)


class Desk:
    """A seat, and its results as they come."""

    def __init__(self, engine, *, realtime=False, options=OPTIONS, state=None):
        self.news = threading.Event()
        self.results = []
        self.seat = engine.open(options, realtime=realtime, notify=self.news.set, state=state)

    def until(self, condition):
        """Take results until a condition on them holds."""
        while True:
            self.news.clear()
            self.results.extend(self.seat.take())
            if condition(self.results):
                return self.results
            assert self.news.wait(20), f"only {self.results}"

    def until_kind(self, kind):
        return self.until(lambda results: any(isinstance(result, kind) for result in results))

    def until_frames(self, count):
        self.until(lambda _: len(self.frames) >= count)
        return self.frames

    @property
    def frames(self):
        return [result for result in self.results if isinstance(result, Frame)]

    def last(self, kind):
        return next(result for result in reversed(self.results) if isinstance(result, kind))


class Gate:
    """Holds the model back at chosen steps, until it is opened."""

    def __init__(self):
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()

    def __call__(self, _step):
        self.reached.set()
        assert self.open.wait(20)

    def shut(self):
        self.open.clear()
        self.reached.clear()


@pytest.fixture
def engines():
    made = []

    def make(**options):
        engine = Engine(FakeFrameModel(**options))
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()
        assert not engine._thread.is_alive()


def ramp(count, level=0.01):
    return [np.full(1920, level * (index + 1), np.float32) for index in range(count)]


@pytest.mark.parametrize("delays", [(0, 0, 1, 0, 1), (0, 0, 2, 0, 2), (0,) * 5])
def test_n_frames_give_n_frames_in_their_time_steps(engines, delays):
    desk = Desk(engines(delays=delays))
    for frame in ramp(6):
        desk.seat.push(frame)
    desk.seat.finish()
    desk.until_kind(Finished)
    assert len(desk.frames) == 6
    assert isinstance(desk.results[-1], Finished)
    for index, frame in enumerate(desk.frames):
        assert frame.at == pytest.approx(index * 0.08)
        assert np.array_equal(frame.user_pcm, ramp(6)[index])
        assert np.array_equal(frame.agent_pcm, frame.user_pcm * np.float32(0.5))
        assert frame.agent.shape == (2,)
        assert frame.user.shape == (2,)


def test_no_audio_at_all(engines):
    desk = Desk(engines(delays=(0, 0, 2, 0, 2)))
    desk.seat.finish()
    desk.until_kind(Finished)
    assert not desk.frames


def test_without_an_agent(engines):
    desk = Desk(engines(agent_streams=0))
    desk.seat.push(LOUD)
    (frame,) = desk.until_frames(1)
    assert frame.agent_pcm is None
    assert frame.agent.shape == (0,)


def test_places_are_given_and_given_back(engines):
    engine = engines(capacity=2)
    assert engine.free == 2
    first, second = Desk(engine), Desk(engine)
    assert (first.seat.slot, second.seat.slot, engine.free) == (0, 1, 0)
    with pytest.raises(CapacityError, match="all 2 places"):
        Desk(engine)
    told = threading.Event()
    with engine.vacancies(told.set):
        first.seat.close()
    assert told.is_set()
    assert engine.free == 1
    first.seat.close()
    assert engine.free == 1
    assert Desk(engine).seat.slot == 0


def test_a_new_conversation_knows_nothing_of_the_last_one(engines):
    engine = engines()
    found = []
    for _ in range(2):
        desk = Desk(engine)
        for frame in ramp(5):
            desk.seat.push(frame)
        found.append([(frame.text, *frame.agent) for frame in desk.until_frames(5)])
        desk.seat.push(LOUD)  # not waited for
        desk.seat.close()
    assert found[0] == found[1]


def test_neighbours_do_not_matter(engines):
    alone = Desk(engines())
    for frame in ramp(8):
        alone.seat.push(frame)
    expected = [(frame.text, *frame.agent) for frame in alone.until_frames(8)]
    engine = engines(capacity=3)
    desks = [Desk(engine, options=attrs.evolve(OPTIONS, seed=seed)) for seed in (1, 5, 3)]
    for index, frame in enumerate(ramp(8)):
        desks[0].seat.push(LOUD)
        desks[1].seat.push(frame)
        if index == 3:
            desks[0].seat.close()
            desks[0] = Desk(engine)
    found = [(frame.text, *frame.agent) for frame in desks[1].until_frames(8)]
    assert found == expected


def test_a_seat_without_frames_holds_nobody_up(engines):
    engine = engines(capacity=2)
    idle, busy = Desk(engine), Desk(engine)
    for frame in ramp(4):
        busy.seat.push(frame)
    busy.until_frames(4)
    assert not idle.seat.take()


def test_a_seat_that_is_not_live_waits_while_nothing_is_taken(engines):
    engine = engines()
    other = Desk(engine)
    other.seat.close()
    desk = Desk(engine)
    for _ in range(100):
        desk.seat.push(LOUD)
    while len(desk.seat.outbox) < Seat.RESULTS_LIMIT:
        assert desk.news.wait(20)
        desk.news.clear()
    with engine.changed:
        assert not desk.seat.can_step()
    assert desk.seat.waiting == 100 - Seat.RESULTS_LIMIT
    desk.until_frames(100)


def test_a_live_seat_that_falls_behind_skips_silence_first(engines):
    gate = Gate()
    engine = engines(on_step=gate)
    desk = Desk(engine, realtime=True)
    gate.shut()
    desk.seat.push(LOUD)
    assert gate.reached.wait(20)
    for index in range(1, 7):  # 6 wait: one more than may
        desk.seat.push(QUIET if index in {2, 5} else LOUD)
    (skipped,) = desk.seat.take()
    assert isinstance(skipped, Skipped)
    assert skipped.seconds == pytest.approx(4 * 0.08)
    assert skipped.behind == pytest.approx(6 * 0.08)
    assert skipped.at == pytest.approx(1 * 0.08)
    assert desk.seat.waiting == Seat.WAITING_AFTER_SKIP
    gate.open.set()
    desk.seat.push(LOUD)
    frames = desk.until_frames(4)
    assert [round(frame.at / 0.08) for frame in frames] == [0, 4, 6, 7]


def test_a_skip_takes_only_silence_where_that_is_enough(engines):
    gate = Gate()
    engine = engines(on_step=gate)
    desk = Desk(engine, realtime=True)
    gate.shut()
    desk.seat.push(LOUD)
    assert gate.reached.wait(20)
    for index in range(1, 7):
        desk.seat.push(LOUD if index in {2, 6} else QUIET)
    gate.open.set()
    frames = desk.until_frames(3)
    assert [round(frame.at / 0.08) for frame in frames] == [0, 2, 6]


def test_a_live_seat_whose_results_nobody_takes_is_held_back_and_goes_on(engines):
    """Whoever takes them is late: neither the results nor the frames pile up."""
    engine = engines(capacity=2)
    desk, other = Desk(engine, realtime=True), Desk(engine, realtime=True)
    for index in range(100):
        desk.seat.push(LOUD)
        other.seat.push(LOUD)
        other.until_frames(index + 1)  # the model has time for every frame
    assert len([result for result in desk.seat.outbox if isinstance(result, Frame)]) <= Seat.LIVE_RESULTS_LIMIT
    assert desk.seat.waiting <= Seat.WAITING_LIMIT
    desk.seat.finish()
    desk.until_kind(Finished)
    skipped = sum(round(result.seconds / 0.08) for result in desk.results if isinstance(result, Skipped))
    assert skipped + len(desk.frames) == 100 + desk.seat.flush
    assert desk.frames[-1].at == pytest.approx((99 + desk.seat.flush) * 0.08)


def test_skipped_frames_keep_the_time_line_of_a_delayed_model(engines):
    gate = Gate()
    engine = engines(on_step=gate, delays=(0, 0, 2, 0, 2))
    desk = Desk(engine, realtime=True)
    gate.shut()
    frames = ramp(7)
    desk.seat.push(frames[0])
    assert gate.reached.wait(20)
    for frame in frames[1:]:
        desk.seat.push(frame)
    gate.open.set()
    desk.seat.finish()
    desk.until_kind(Finished)
    assert [round(frame.at / 0.08) for frame in desk.frames] == [0, 5, 6]
    for frame in desk.frames:
        assert np.array_equal(frame.user_pcm, frames[round(frame.at / 0.08)])
        assert np.array_equal(frame.agent_pcm, frame.user_pcm * np.float32(0.5))


def fail_at(number):
    def on_step(step):
        if step == number:
            raise RuntimeError("out of memory")

    return on_step


def test_a_failure_ends_the_conversations_of_the_step_only(engines):
    engine = engines(capacity=3, on_step=fail_at(1))
    healthy, hit = Desk(engine), Desk(engine)
    hit.seat.push(LOUD)
    hit.until_frames(1)
    hit.seat.push(LOUD)
    hit.until_kind(Failed)
    error = hit.last(Failed).error
    assert isinstance(error, ModelError)
    assert "out of memory" in str(error)
    assert isinstance(error.__cause__, RuntimeError)
    hit.seat.push(LOUD)
    hit.seat.finish()
    healthy.seat.push(LOUD)
    healthy.until_frames(1)
    assert not hit.seat.take()


def test_a_failure_to_open(engines):
    def on_open(slot):
        if slot == 1:
            raise RuntimeError("no")

    engine = engines(capacity=2, on_open=on_open)
    good, bad = Desk(engine), Desk(engine)
    bad.seat.push(LOUD)
    bad.until_kind(Failed)
    good.seat.push(LOUD)
    good.until_frames(1)


class Broken(FakeFrameModel):
    """Exports nothing, and answers with nonsense."""

    def export(self, slot):
        raise OSError(f"cannot copy slot {slot}")

    def step(self, pcm, active):
        result = super().step(pcm, active)
        return attrs.evolve(result, text=None) if active[1] else result


@pytest.fixture
def broken():
    engine = Engine(Broken(capacity=2))
    yield engine
    engine.close()


def test_a_failure_to_export(broken):
    desk, other = Desk(broken), Desk(broken)
    desk.seat.export()
    desk.until_kind(Exported)
    assert "cannot copy slot 0" in str(desk.last(Exported).state)
    assert broken._thread.is_alive()
    desk.seat.push(LOUD)  # only the export has failed
    desk.until_frames(1)
    other.seat.close()


def test_exports_that_overlap_are_of_one_moment(engines, monkeypatch):
    monkeypatch.setattr(Seat, "EXPORT_PIECE", 1)
    engine = engines(capacity=2)
    desk, neighbour = Desk(engine), Desk(engine)
    for frame in ramp(3):
        desk.seat.push(frame)
    desk.until_frames(3)
    for _ in range(3):
        desk.seat.export()
    for frame in ramp(6):
        desk.seat.push(frame)
        neighbour.seat.push(frame)
    desk.until(lambda results: sum(isinstance(each, Exported) for each in results) == 3)
    states = [each.state for each in desk.results if isinstance(each, Exported)]
    for state in states[1:]:
        assert state.metadata == states[0].metadata
        assert all((state.tensors[name] == tensor).all() for name, tensor in states[0].tensors.items())
    desk.until_frames(9)


def test_a_conversation_that_cannot_be_woken_takes_nobody_along(engines):
    engine = engines(capacity=2)
    seat = engine.open(OPTIONS, realtime=False, notify=lambda: 1 / 0)
    desk = Desk(engine)
    seat.push(LOUD)
    desk.seat.push(LOUD)
    desk.until_frames(1)
    assert engine._thread.is_alive()
    seat.close()


def test_a_time_line_of_another_model(engines):
    engine = engines()
    state = SessionState(
        metadata={}, tensors={"seat.index": np.array([4, 3]), "seat.pcm": np.zeros((1, 7), np.float32)}
    )
    with pytest.raises(StateError, match="does not fit"):
        engine.open(OPTIONS, realtime=False, notify=lambda: None, state=state)
    assert engine.free == engine.model.spec.capacity


def test_a_result_that_makes_no_sense(broken):
    first, second = Desk(broken), Desk(broken)
    second.seat.push(LOUD)
    second.until_kind(Failed)
    first.seat.push(LOUD)
    first.until_frames(1)


@pytest.mark.parametrize("delays", [(0, 0, 1, 0, 1), (0, 0, 2, 0, 2)])
def test_export_and_restore(engines, delays):
    engine = engines(capacity=2, delays=delays)
    first = Desk(engine)
    frames = ramp(9)
    for frame in frames[:5]:
        first.seat.push(frame)
    first.until_frames(5 - engine.model.spec.latency_frames)
    first.seat.export()
    first.until_kind(Exported)
    before = list(first.frames)
    second = Desk(engine, state=first.last(Exported).state)
    for desk in (first, second):
        for frame in frames[5:]:
            desk.seat.push(frame)
        desk.seat.finish()
        desk.until_kind(Finished)
    assert len(first.frames) == 9
    moved = before + second.frames
    for one, other in zip(first.frames, moved, strict=True):
        assert one.at == other.at
        assert (one.text, *one.agent, *one.user) == (other.text, *other.agent, *other.user)
        assert np.array_equal(one.agent_pcm, other.agent_pcm)
        assert np.array_equal(one.user_pcm, other.user_pcm)


def test_export_while_neighbours_step(engines):
    """The state is copied in pieces between steps; its own seat waits, others do not."""
    engine = engines(capacity=2)
    first, neighbour = Desk(engine), Desk(engine)
    for _ in range(20):
        first.seat.push(LOUD)
        neighbour.seat.push(LOUD)
        first.seat.export()
    first.seat.finish()
    first.until_kind(Finished)
    neighbour.until_frames(20)
    assert sum(isinstance(result, Exported) for result in first.results) == 20
    assert len(first.frames) == 20


def test_damaged_states(engines):
    engine = engines()
    with pytest.raises(StateError):
        Desk(engine, state=SessionState(metadata={}, tensors={}))
    assert engine.free == 1
    line = {"seat.index": np.array([0]), "seat.pcm": np.zeros((0, 1920), np.float32)}
    desk = Desk(engine, state=SessionState(metadata={}, tensors=line))
    desk.until_kind(Failed)
    assert isinstance(desk.last(Failed).error, StateError)


def test_close(engines):
    engine = engines(capacity=2)
    desk = Desk(engine)
    told = threading.Event()
    with engine.vacancies(told.set):
        engine.close()
    engine.close()
    assert told.is_set()
    assert engine.model.closed
    assert isinstance(desk.until_kind(Failed)[-1].error, ClosedError)
    with pytest.raises(ClosedError):
        Desk(engine)
    desk.seat.close()


def test_closing_a_seat_in_the_middle_of_its_step(engines):
    gate = Gate()
    engine = engines(on_step=gate)
    desk = Desk(engine)
    gate.shut()
    desk.seat.push(LOUD)
    assert gate.reached.wait(20)
    desk.seat.close()
    successor = Desk(engine)
    successor.seat.push(QUIET)
    gate.open.set()
    (frame,) = successor.until_frames(1)
    assert frame.at == 0
    assert not frame.agent_pcm.any()
    assert not desk.seat.take()
