"""A model that stops answering: whoever waits for it is told, and it may come back."""

import threading
import time

import pytest
from engine_support import LOUD, OPTIONS, Desk, engines  # noqa: F401

from duplex.engine import watchdog
from duplex.engine.outcomes import Failed
from duplex.engine.watchdog import StepDeadline
from duplex.errors import ModelStalledError


def running(deadline, begin, *observations):
    """Return how long a step counts as running, when observed at these times."""
    deadline.begin(begin)
    return [deadline.observe(now) for now in observations][-1]


def stepped(*durations):
    """Return a deadline after steps of so many seconds."""
    deadline, now = StepDeadline(), 0.0
    for duration in durations:
        deadline.begin(now)
        deadline.end(now + duration)
        now += duration
    return deadline


def test_a_step_may_take_a_multiple_of_the_usual_time_but_ten_seconds_at_least():
    assert stepped(*[0.04] * 50).limit == StepDeadline.FLOOR == 10
    assert stepped(*[3.0] * 50).limit == pytest.approx(3 * StepDeadline.MULTIPLE)


def test_the_first_step_may_compile_for_minutes():
    assert StepDeadline().limit >= 300
    slow_start = stepped(120.0, *[0.04] * 100)
    assert slow_start.limit == 10, "what the first took is forgotten"


def test_a_hang_does_not_become_what_is_usual():
    deadline = stepped(*[0.04] * 50)
    deadline.begin(0.0)
    deadline.end(1e6)
    assert deadline.usual < 2


def test_jobs_do_not_count_for_the_usual_time():
    deadline = stepped(*[0.04] * 50)
    deadline.begin(0.0)
    deadline.end(9.0, counts=False)
    assert deadline.usual == pytest.approx(0.04)


def test_the_time_that_nobody_observed_does_not_count():
    assert running(StepDeadline(), 0.0, *range(1, 12)) == 11
    assert running(StepDeadline(), 0.0, 1.0, 3601.0, 3602.0) == pytest.approx(4.0), "an hour's sleep"
    deadline = stepped(0.04)
    assert deadline.observe(100.0) == 0, "no step runs"


@pytest.fixture
def short(monkeypatch):
    """Seconds become hundredths."""
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(StepDeadline, "FLOOR", 0.2)
    monkeypatch.setattr(StepDeadline, "MULTIPLE", 1.0)


@pytest.mark.usefixtures("short")
def test_a_model_that_hangs_ends_its_conversations_and_may_come_back(engines):
    hold = threading.Event()
    engine = engines(capacity=3, on_step=lambda step: step == 1 and hold.wait(30))
    stuck, beside = Desk(engine), Desk(engine)
    stuck.seat.push(LOUD)
    stuck.until_frames(1)
    stuck.seat.push(LOUD)
    stuck.until_kind(Failed)
    assert isinstance(stuck.last(Failed).error, ModelStalledError)
    beside.until_kind(Failed)
    assert engine.watchdog.late
    stuck.seat.close()
    with pytest.raises(ModelStalledError, match="restart the process"):
        engine.open(OPTIONS, realtime=False, notify=int)
    hold.set()
    while engine.watchdog.late:
        pass
    again = Desk(engine)
    again.seat.push(LOUD)
    again.until_frames(1)


@pytest.mark.usefixtures("short")
def test_closing_does_not_wait_for_a_model_that_hangs(engines):
    hold = threading.Event()
    engine = engines(capacity=1, on_step=lambda step: step == 1 and hold.wait(30))
    stuck = Desk(engine)
    stuck.seat.push(LOUD)
    stuck.until_frames(1)
    stuck.seat.push(LOUD)
    stuck.until_kind(Failed)
    engine.close()
    assert not engine.model.closed
    hold.set()
    while not engine.model.closed:  # by the thread, when the step has ended at last
        time.sleep(0.01)
    engine._thread.join()
