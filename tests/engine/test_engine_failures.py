"""Steps, openings and exports that fail, and engines that close."""

import threading

import attrs
import numpy as np
import pytest
from engine_support import LOUD, OPTIONS, QUIET, Desk, Gate, engines, ramp  # noqa: F401

from duplex.engine.engine import Engine
from duplex.engine.outcomes import Exported, Failed, Finished
from duplex.engine.seat import Seat
from duplex.errors import ClosedError, ModelError, StateError
from duplex.frame_model import SessionState
from duplex.testing import FakeFrameModel


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


class Ill(FakeFrameModel):
    """Cannot step slots that hear something very loud; the others it can."""

    def step(self, pcm, active):
        result = super().step(pcm, active)
        for slot in np.flatnonzero(active & (pcm[:, 0] > 0.5)).tolist():
            result.errors[slot] = IndexError("an index past the end")
            result.valid[slot] = False
        return result


def test_a_failure_of_one_slot_ends_one_conversation():
    gate = Gate()
    engine = Engine(Ill(capacity=3, on_step=gate))
    try:
        desks = [Desk(engine) for _ in range(3)]
        for desk in desks:
            desk.seat.push(LOUD)
            desk.until_frames(1)
        gate.shut()
        desks[2].seat.push(LOUD)  # held back, so that the next step has all of them
        assert gate.reached.wait(20)
        for desk, level in zip(desks, (0.1, 0.9, 0.1), strict=True):
            desk.seat.push(np.full(1920, level, np.float32))
        gate.open.set()
        desks[1].until_kind(Failed)
        assert isinstance(desks[1].last(Failed).error, ModelError)
        assert "an index past the end" in str(desks[1].last(Failed).error)
        for desk, count in ((desks[0], 2), (desks[2], 3)):
            desk.until_frames(count)
            desk.seat.push(LOUD)
            desk.until_frames(count + 1)
            assert not any(isinstance(result, Failed) for result in desk.results)
    finally:
        engine.close()


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
