"""Silence that a seat inserts: steps of the model that take no time on the time line, and cost no live audio."""

import numpy as np
import pytest
from engine_support import LOUD, QUIET, Desk, Gate, engines

from duplex.engine.outcomes import Finished, Skipped
from duplex.engine.seat import Seat

__all__ = ["engines"]
SILENCE = 12


def places(frames):
    return [(round(frame.at / 0.08), frame.inserted) for frame in frames]


def test_it_comes_after_what_was_pushed_and_takes_no_time(engines):
    desk = Desk(engines(delays=(0,) * 5))
    for frame in (LOUD, LOUD):
        desk.seat.push(frame)
    desk.seat.insert_silence(2)
    desk.seat.push(LOUD)
    desk.seat.finish()
    desk.until_kind(Finished)
    assert places(desk.frames) == [(0, False), (1, False), (2, True), (2, True), (2, False)]
    assert [bool(frame.user_pcm.any()) for frame in desk.frames] == [True, True, False, False, True]


def test_nothing_is_inserted_after_the_end(engines):
    desk = Desk(engines())
    desk.seat.push(LOUD)
    desk.seat.finish()
    desk.seat.insert_silence(3)
    desk.until_kind(Finished)
    desk.seat.insert_silence(3)
    assert places(desk.frames) == [(index, False) for index in range(1 + desk.seat.flush)]


def test_live_audio_that_waits_for_it_is_not_skipped(engines):
    gate = Gate()
    desk = Desk(engines(on_step=gate, delays=(0,) * 5), realtime=True)
    gate.shut()
    desk.seat.push(LOUD)
    assert gate.reached.wait(20)
    desk.seat.insert_silence(SILENCE)
    for _ in range(Seat.WAITING_LIMIT):
        desk.seat.push(LOUD)
    gate.open.set()
    desk.until_frames(1 + SILENCE + Seat.WAITING_LIMIT)
    assert not any(isinstance(result, Skipped) for result in desk.results)
    expected = [(0, False), *[(1, True)] * SILENCE, *[(1 + n, False) for n in range(Seat.WAITING_LIMIT)]]
    assert places(desk.frames) == expected


def test_of_too_much_only_audio_is_skipped(engines):
    gate = Gate()
    desk = Desk(engines(on_step=gate, delays=(0,) * 5), realtime=True)
    gate.shut()
    desk.seat.push(LOUD)
    assert gate.reached.wait(20)
    desk.seat.insert_silence(SILENCE)
    for index in range(Seat.WAITING_LIMIT + 1):
        desk.seat.push(QUIET if index in {1, 2} else LOUD)
    (skipped,) = desk.seat.take()
    assert skipped.seconds == pytest.approx((Seat.WAITING_LIMIT + 1 - Seat.WAITING_AFTER_SKIP) * 0.08)
    assert skipped.behind == pytest.approx((Seat.WAITING_LIMIT + 1) * 0.08)
    gate.open.set()
    desk.until_frames(1 + SILENCE + Seat.WAITING_AFTER_SKIP)
    assert [inserted for _, inserted in places(desk.frames)] == [False, *[True] * SILENCE, False, False]


def test_the_allowance_ends_when_the_model_has_caught_up(engines):
    gate = Gate()
    desk = Desk(engines(on_step=gate, delays=(0,) * 5), realtime=True)
    desk.seat.push(LOUD)
    desk.seat.insert_silence(SILENCE)
    desk.until_frames(1 + SILENCE)
    gate.shut()
    desk.seat.push(LOUD)
    assert gate.reached.wait(20)
    for _ in range(Seat.WAITING_LIMIT + 1):
        desk.seat.push(LOUD)
    assert isinstance(desk.seat.take()[-1], Skipped)
    gate.open.set()


def test_a_state_taken_within_it_goes_on_at_the_audio_after_it(engines):
    engine = engines(delays=(0,) * 5)
    desk = Desk(engine)
    for _ in range(3):
        desk.seat.push(LOUD)
    desk.seat.insert_silence(4)
    desk.until_frames(7)
    desk.seat.export()
    state = desk.until(lambda results: any(hasattr(result, "state") for result in results))[-1].state
    desk.seat.close()
    resumed = Desk(engine, state=state)
    resumed.seat.push(np.full(1920, 0.2, np.float32))
    resumed.until_frames(1)
    assert places(resumed.frames) == [(3, False)]
