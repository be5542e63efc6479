"""Devices that are exchanged as a call ends, or that do not open: none stays open."""

import anyio
import anyio.lowlevel
import pytest
from talk_support import RATE, Headset

from duplex import AudioDeviceError, ClosedError
from duplex.talk.line import TalkLine

pytestmark = pytest.mark.anyio


class Slow(Headset):
    """Opens when it is let, be it cancelled meanwhile: what opens devices is a thread. May fail in the end."""

    def __init__(self, failure=None):
        super().__init__()
        self.failure = failure
        self.opening, self.let = anyio.Event(), anyio.Event()
        self.open = False

    async def start(self, sample_rate):
        self.opening.set()
        with anyio.CancelScope(shield=True):
            await self.let.wait()
        self.open = True
        if self.failure is not None:
            raise self.failure
        await anyio.lowlevel.checkpoint()
        await super().start(sample_rate)

    async def aclose(self):
        await anyio.lowlevel.checkpoint()
        self.open = False
        await super().aclose()


async def line_of(*microphones):
    left = list(microphones)
    line = TalkLine(lambda *_: left.pop(0), None, None)
    await line.start(RATE)
    return line


async def test_devices_that_open_as_the_call_ends_are_closed():
    second = Slow()
    line = await line_of(Headset(), second)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.choose, 1, 1)
        await second.opening.wait()
        await line.aclose()
        second.let.set()
    assert not second.open
    assert line.chosen == (None, None)
    with pytest.raises(ClosedError):
        await line.receive()


async def test_devices_that_open_as_their_user_is_cancelled_are_closed():
    second = Slow()
    line = await line_of(Headset(), second)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.choose, 1, 1)
        await second.opening.wait()
        tasks.cancel_scope.cancel()
        second.let.set()
    assert not second.open
    await line.aclose()


@pytest.mark.parametrize("failure", [OSError(24, "Too many open files"), AudioDeviceError("there is no microphone")])
async def test_devices_that_fail_while_they_open_are_closed(failure):
    second, third = Slow(failure), Headset()
    second.let.set()
    line = await line_of(Headset(), second, third)
    with pytest.raises(type(failure)):
        await line.choose(1, 1)
    assert not second.open
    await line.aclose()
