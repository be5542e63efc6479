"""Slots, steps and the one inference thread, without an event loop."""

import threading

import attrs
import numpy as np
import pytest
from engine_support import LOUD, OPTIONS, QUIET, Desk, Gate, engines, ramp  # noqa: F401

from duplex.engine.outcomes import Finished, Skipped
from duplex.engine.seat import Seat
from duplex.errors import CapacityError
from duplex.frame_model import Frame


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


def test_a_seat_that_is_given_up_twice_is_one_free_place(engines):
    engine = engines()
    seat = engine.open(OPTIONS, realtime=False, notify=lambda: None)
    free = engine.free
    with engine.changed:  # so the engine's thread has to wait with what it does about it
        seat.abandon()
        seat.abandon()
        assert engine.free == free + 1
