"""When the microphone's blocks are taken, and how much of the agent's audio waits for the loudspeaker."""

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np
import pytest
from microphone_support import RATE, FakeLine, FakeSound, tone

from duplex import MicrophoneTransport
from duplex.transports.microphone.margin import FIRST, GUARD, LEAST, MOST, STEP, Margin
from duplex.transports.microphone.streams import CaptureBuffer

FRAME = 0.08
FRAME_SAMPLES = 1920


class Told(FakeLine):
    """A stream whose callback is called by the test alone."""

    def pump(self):
        """Do nothing."""

    def is_alive(self):
        return True


class Blocks:
    """A microphone whose thread gives a block of 20 ms when it is told to, and a loudspeaker that has played ahead."""

    def __init__(self):
        self.system = FakeSound(sound=tone())
        self.transport = MicrophoneTransport(system=self, echo_cancellation="off")
        self.given, self.received, self.looks = 0, [], 0

    def __getattr__(self, name):
        return getattr(self.system, name)

    def open_capture(self, device):
        self.buffer = CaptureBuffer(device.sample_rate, 1)
        return self.buffer, Told(self.system, device, self.buffer, True, self.system.now())

    def give(self):
        self.system.time += 0.02
        self.given += 1  # before the block: who waits for it is woken before this thread goes on
        self.buffer.callback(np.full((960, 1), 0.1, np.float32), self.system.time - 0.02)

    async def hear(self):
        line = self.transport._line
        advance = line.advance

        def counted(now):
            self.looks += 1
            return advance(now)

        line.advance = counted
        while True:
            self.transport.expect(FRAME_SAMPLES)
            pcm = await self.transport.receive()
            assert pcm.size == FRAME_SAMPLES
            self.received.append(self.given)


@pytest.mark.anyio
async def test_a_frame_is_given_with_the_block_that_fills_it_at_one_look_each():
    """However late it comes: a block is given only when nothing is left to be done for those before it."""
    blocks = Blocks()
    await blocks.transport.start(RATE)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(blocks.hear)
            for _ in range(100):
                await anyio.to_thread.run_sync(blocks.give)
                await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    finally:
        await blocks.transport.aclose()
    assert blocks.received == list(range(3, 100, 4))  # the first two of a device are left out
    assert blocks.looks < 2 * len(blocks.received)  # of the first blocks one each, and some on a machine that stalls


@pytest.mark.anyio
async def test_who_waits_for_a_frame_is_told_of_the_end_at_once():
    blocks = Blocks()
    await blocks.transport.start(RATE)
    over = []

    async def receive():
        with pytest.raises(anyio.EndOfStream):
            await blocks.transport.receive()
        over.append(True)

    async with anyio.create_task_group() as tasks:
        blocks.transport.expect(1000 * RATE)
        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        assert not over
        with anyio.fail_after(10):
            blocks.transport.end()
            while not over:
                await anyio.lowlevel.checkpoint()
    await blocks.transport.aclose()


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
