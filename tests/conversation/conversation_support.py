"""What the tests of conversation share."""

import threading

import anyio
import anyio.to_thread
import numpy as np
import pytest

from duplex import (
    AgentAudio,
    MemoryTransport,
    SessionEnded,
    SessionStarted,
)

FRAME = 1920


DELAYS = [(0, 0, 1, 0, 1), (0, 0, 2, 0, 2)]


@pytest.fixture(autouse=True)
async def nothing_left_behind():
    """No task of a conversation survives a test."""
    yield
    await until(lambda: not tasks_of_conversations())  # what was dropped ends on its own


def tasks_of_conversations():
    names = [task.name for task in anyio.get_running_tasks()]
    return [name for name in names if "duplex" in name or "_guard" in name]


def ramp(frames, level=0.01):
    """Every frame at a level of its own."""
    return np.repeat(level * np.arange(1, frames + 1, dtype=np.float32), FRAME)


def loud(frames):
    return np.full(frames * FRAME, 0.1, np.float32)


def of(found, kind):
    return [event for event in found if isinstance(event, kind)]


def pcm_of(found):
    return np.concatenate([event.pcm for event in of(found, AgentAudio)])


def check_order(found, first=0):
    """What holds of every conversation that came to an end."""
    assert [event.sequence for event in found] == list(range(first, first + len(found)))
    assert isinstance(found[0], SessionStarted)
    assert isinstance(found[-1], SessionEnded)
    assert len(of(found, SessionStarted)) == len(of(found, SessionEnded)) == 1


class Live(MemoryTransport):
    """A line in real time, whose microphone the test plays."""

    def __init__(self, **options):
        super().__init__(realtime=True, **options)
        self.started = False

    async def start(self, sample_rate):
        await super().start(sample_rate)
        self.started = True


class Gate:
    """Holds the model back, from the inference thread, until it is opened."""

    def __init__(self):
        self.open = threading.Event()
        self.reached = threading.Event()

    def __call__(self, _step):
        self.reached.set()
        assert self.open.wait(30)


async def reached(event):
    assert await anyio.to_thread.run_sync(event.wait, 30)


class Kept:
    def __init__(self):
        self.frames = []

    def record(self, frame):
        self.frames.append(frame)


async def until(condition):
    while not condition():
        await anyio.sleep(0.001)
