"""What the tests of engine share."""

import threading

import numpy as np
import pytest

from duplex.engine.engine import Engine
from duplex.frame_model import Frame
from duplex.options import SessionOptions
from duplex.testing import FakeFrameModel

OPTIONS = SessionOptions(temperature=0.8, text_temperature=0.7, top_k=0, text_top_k=0, seed=5)


LOUD = np.full(1920, 0.1, np.float32)


QUIET = np.zeros(1920, np.float32)


class Desk:
    """A seat, and its results as they come."""

    def __init__(self, engine, *, realtime=False, options=OPTIONS, state=None, conditions=None):
        self.news = threading.Event()
        self.results = []
        given = {"realtime": realtime, "notify": self.news.set, "state": state, "conditions": conditions}
        self.seat = engine.open(options, **given)

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
