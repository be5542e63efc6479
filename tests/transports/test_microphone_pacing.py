"""When the microphone is looked at, and how much of the agent's audio waits for the loudspeaker."""

import numpy as np
import pytest

from duplex.transports.microphone.margin import FIRST, GUARD, LEAST, MOST, STEP, Margin
from duplex.transports.microphone.waiting import Waits

FRAME = 0.08


class Blocks:
    """A device's blocks of 20 ms on a made-up clock, and who waits for frames of them."""

    def __init__(self, jitter=0.0, first=0.0):
        self.now, self.looks, self.behind = first, 0, []
        self._random, self._jitter = np.random.default_rng(5), jitter
        self._waits = Waits()

    def arrival(self, block):
        return 0.02 * (block + 1) + abs(self._random.normal(0, self._jitter)) if self._jitter else 0.02 * (block + 1)

    def take(self, frames):
        arrivals, taken = [self.arrival(block) for block in range(4 * frames + 4)], 0
        for frame in range(frames):
            wanted = 4 * (frame + 1)
            while taken < wanted:
                came = sum(at <= self.now for at in arrivals[taken:wanted])
                self.looks += 1
                taken += came
                if taken < wanted:
                    self.now += self._waits.pause(FRAME, self.now)
            self._waits.complete(self.now)
            self.behind.append(self.now - max(arrivals[:wanted]))
            self.now += 0.0015  # the model's


@pytest.mark.parametrize("first", [0.0, 0.007, 0.019])
def test_looks_come_to_lie_right_behind_the_blocks(first):
    blocks = Blocks(first=first)
    blocks.take(100)
    assert max(blocks.behind[40:]) < 0.004
    assert blocks.looks < 250  # that is, 2.5 a frame; looking each 20 ms were 400


def test_blocks_that_come_late_at_random_cost_few_looks():
    blocks = Blocks(jitter=0.003)
    blocks.take(200)
    assert np.median(blocks.behind[40:]) < 0.006
    assert blocks.looks < 600


def test_the_margin_is_least_where_frames_come_on_time():
    margin = Margin()
    assert margin.seconds == FIRST
    for _ in range(2000):
        margin.came(margin.seconds, FRAME)
    assert margin.seconds == pytest.approx(LEAST, abs=0.001)


def test_a_frame_that_comes_late_widens_the_margin_before_it_runs_dry():
    margin = Margin()
    for _ in range(100):
        margin.came(FIRST, FRAME)
    margin.came(FIRST - 0.018, FRAME)
    assert margin.seconds == pytest.approx(0.018 + GUARD, abs=0.001)
    for _ in range(1000):
        margin.came(margin.seconds, FRAME)
    assert margin.seconds < 0.02


def test_the_margin_grows_by_what_was_missing_and_is_bounded():
    margin = Margin()
    margin.ran_dry(0.015)
    assert margin.seconds == pytest.approx(FIRST + 0.015)
    margin.ran_dry(5.0)
    assert margin.seconds == pytest.approx(FIRST + 0.015 + STEP)
    for _ in range(20):
        margin.ran_dry(0.001)
    assert margin.seconds == pytest.approx(MOST)
