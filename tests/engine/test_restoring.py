"""Restores that take long: neighbours are stepped between their pieces, and whoever leaves ends them."""

import threading
from itertools import pairwise

import numpy as np
import pytest
from engine_support import LOUD, Desk, ramp

from duplex.engine.engine import Engine
from duplex.engine.outcomes import Exported, Failed, Finished
from duplex.errors import StateError
from duplex.testing import FakeFrameModel


class Long(FakeFrameModel):
    """Restores in ``PIECES`` pieces, tells each, and each step; ``held`` is waited for before each of them."""

    PIECES = 12

    def __init__(self, **options):
        super().__init__(**options)
        self.told, self.held, self.reached = [], threading.Event(), threading.Event()
        self.held.set()

    def step(self, pcm, active):
        self._tell("step")
        return super().step(pcm, active)

    def restore(self, slot, state):
        for _ in range(self.PIECES - 2):
            self._tell(slot)
            yield
        yield from super().restore(slot, state)

    def _tell(self, what):
        self.reached.set()
        assert self.held.wait(20)
        self.told.append(what)


@pytest.fixture
def engine():
    made = Engine(Long(capacity=4))
    yield made
    made.model.held.set()
    made.close()


@pytest.fixture
def saved(engine):
    """A conversation of three frames, exported."""
    desk = Desk(engine)
    for frame in ramp(3):
        desk.seat.push(frame)
    desk.until_frames(3)
    desk.seat.export()
    desk.until_kind(Exported)
    desk.seat.close()
    return desk.last(Exported).state


def rest_of(desk):
    """Hear four more frames, and return the tokens that come out."""
    for frame in ramp(4, 0.02):
        desk.seat.push(frame)
    desk.seat.finish()
    desk.until_kind(Finished)
    return [(frame.at, frame.text, *frame.agent, *frame.user) for frame in desk.frames]


def hold(engine):
    """Have the inference thread wait before its next piece or step."""
    engine.model.held.clear()
    engine.model.reached.clear()
    engine.model.told.clear()


def test_a_step_waits_for_one_piece_of_all_restores(engine, saved):
    neighbour = Desk(engine)
    hold(engine)
    for _ in range(20):
        neighbour.seat.push(LOUD)
    assert engine.model.reached.wait(20)
    restored = [Desk(engine, state=saved) for _ in range(3)]
    engine.model.held.set()
    neighbour.until_frames(20)
    ends = [rest_of(desk) for desk in restored]
    assert ends[0] == ends[1] == ends[2]
    assert len(ends[0]) == 4
    told = engine.model.told
    while_waiting = told[: [place for place, what in enumerate(told) if what == "step"][19]]
    assert any(what != "step" for what in while_waiting)
    for one, next_one in pairwise(while_waiting):
        assert "step" in {one, next_one}, "two pieces while a frame waited"
    assert {what for what in while_waiting if what != "step"} == {desk.seat.slot for desk in restored}


def test_leaving_while_being_restored(engine, saved):
    """The slot is another's at once, and what was begun in it is not gone on with."""
    expected = rest_of(first := Desk(engine, state=saved))
    first.seat.close()
    hold(engine)
    left = Desk(engine, state=saved)
    assert engine.model.reached.wait(20)
    left.seat.close()
    after, fresh = Desk(engine, state=saved), Desk(engine)
    assert after.seat.slot == left.seat.slot
    engine.model.held.set()
    assert rest_of(after) == expected
    assert len(rest_of(fresh)) == 4
    pieces = engine.model.told.count(after.seat.slot)
    assert pieces == Long.PIECES - 2 + 1, "of the one that was left, one piece"


def test_an_export_waits_for_the_restore(engine, saved):
    before = Desk(engine)
    rest_of(before)  # what the slot still holds
    before.seat.close()
    hold(engine)
    desk = Desk(engine, state=saved)
    assert engine.model.reached.wait(20)
    assert desk.seat.slot == before.seat.slot
    desk.seat.export()
    engine.model.held.set()
    desk.until_kind(Exported)
    again = desk.last(Exported).state
    assert again.tensors.keys() == saved.tensors.keys()
    for name, tensor in saved.tensors.items():
        assert np.array_equal(tensor, again.tensors[name]), name


class Late(FakeFrameModel):
    """Finds out in the middle that a state is damaged."""

    def restore(self, slot, state):
        yield
        raise StateError(f"the state is damaged, of slot {slot} and {len(state.tensors)} tensors; export it anew")


def test_a_restore_that_fails_in_the_middle(saved):
    engine = Engine(Late(capacity=2))
    try:
        desk, neighbour = Desk(engine, state=saved), Desk(engine)
        desk.until_kind(Failed)
        assert isinstance(desk.last(Failed).error, StateError)
        neighbour.seat.push(LOUD)
        neighbour.until_frames(1)
        desk.seat.close()
        successor = Desk(engine)
        successor.seat.push(LOUD)
        successor.until_frames(1)
    finally:
        engine.close()
