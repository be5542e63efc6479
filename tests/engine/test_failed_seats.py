"""Seats that fail before they are ready: whoever waits for that, or for a job of theirs, is told."""

import threading

import numpy as np
import pytest
from engine_support import LOUD, OPTIONS, Desk, engines  # noqa: F401

from duplex.engine import watchdog
from duplex.engine.outcomes import Exported, Failed
from duplex.engine.watchdog import StepDeadline
from duplex.errors import ClosedError, ModelError, ModelStalledError
from duplex.prompting.prompt import Prompt

PATIENCE = 20


class Opening:
    """Holds the model back while it opens a slot, except the first."""

    def __init__(self):
        self.opened, self.reached, self.goes_on = 0, threading.Event(), threading.Event()

    def __call__(self, _slot):
        self.opened += 1
        if self.opened > 1:
            self.reached.set()
            assert self.goes_on.wait(PATIENCE)


@pytest.fixture
def opening():
    made = Opening()
    yield made
    made.goes_on.set()


def prompted(engine, news):
    """Return a seat that begins with a prompt of many columns."""
    columns = np.full((engine.model.spec.streams, 240), 5, np.int64)
    return engine.open(OPTIONS, realtime=False, notify=news.set, prompt=Prompt(columns=columns))


def test_a_stall_while_a_seat_begins_makes_it_ready_as_it_never_will_be(engines, opening, monkeypatch):
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(StepDeadline, "FLOOR", 0.2)
    monkeypatch.setattr(StepDeadline, "MULTIPLE", 1.0)
    engine = engines(capacity=2, on_open=opening)
    first = Desk(engine)
    first.seat.push(LOUD)
    first.until_frames(1)
    news = threading.Event()
    seat = prompted(engine, news)
    seat.export()
    first.until_kind(Failed)
    assert seat.ready
    assert seat.failed
    (failed,) = seat.take()
    assert isinstance(failed.error, ModelStalledError)
    news.clear()
    opening.goes_on.set()
    assert news.wait(PATIENCE), "whoever waits for its export is told that there is none"
    (exported,) = seat.take()
    assert isinstance(exported, Exported)
    assert isinstance(exported.state, ModelError)
    assert not engine.model._slots[seat.slot].frames, "nothing more of its prompt has been fed"


def test_the_end_of_the_model_while_a_seat_begins(engines, opening):
    engine = engines(capacity=2, on_open=opening)
    Desk(engine)
    news = threading.Event()
    seat = prompted(engine, news)
    assert opening.reached.wait(PATIENCE)
    engine.close(wait=0.0)  # it goes on opening
    assert seat.ready
    assert seat.failed
    assert isinstance(seat.take()[0].error, ClosedError)
    opening.goes_on.set()
    engine._thread.join(PATIENCE)
    assert not seat.take(), "it has been told once"


def test_who_frees_a_seat_wakes_whoever_waits_for_it(engines):
    engine = engines()
    desk = Desk(engine)
    desk.seat.push(LOUD)
    desk.until_frames(1)
    desk.news.clear()
    desk.seat.close()
    assert desk.news.wait(PATIENCE)
