"""Arrays as a conversation's transport."""

import anyio
import numpy as np
import pytest
from audio_files_support import RATE, receive_all

from duplex.errors import AudioError, ClosedError, UsageError
from duplex.transports import MemoryTransport

pytestmark = pytest.mark.anyio


def noise(samples):
    return np.random.default_rng(1).standard_normal(samples).astype(np.float32) / 10


@pytest.mark.parametrize("samples", [1, 1920, 100_000])
async def test_memory_delivers_what_it_was_given(samples):
    pcm = noise(samples)
    transport = MemoryTransport(pcm)
    await transport.start(RATE)
    pieces = await receive_all(transport)
    assert all(0 < p.size <= RATE for p in pieces)
    assert np.array_equal(np.concatenate(pieces), pcm)
    assert transport.pending_seconds == 0
    with pytest.raises(anyio.EndOfStream):
        await transport.receive()


async def test_memory_takes_int16_at_any_rate():
    transport = MemoryTransport((noise(44100 * 2) * 32767).astype(np.int16), sample_rate=44100)
    await transport.start(RATE)
    assert sum(p.size for p in await receive_all(transport)) == 2 * RATE


async def test_memory_of_nothing():
    transport = MemoryTransport(np.zeros(0, dtype=np.float32))
    await transport.start(RATE)
    with pytest.raises(anyio.EndOfStream):
        await transport.receive()


@pytest.mark.parametrize("realtime", [False, True])
async def test_memory_tells_realtime(realtime):
    assert MemoryTransport(realtime=realtime).realtime is realtime


async def test_feeding_before_and_after_the_start():
    transport = MemoryTransport(sample_rate=48000)
    pcm = noise(48000)
    await transport.feed(pcm[:1000])
    await transport.start(RATE)
    heard = []

    async def listen():
        heard.extend(await receive_all(transport))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            for start in range(1000, 48000, 700):
                await transport.feed(pcm[start : start + 700])
                await anyio.lowlevel.checkpoint()
            await transport.end()
            await transport.end()
    assert sum(p.size for p in heard) == RATE


async def test_feeding_waits_while_too_much_is_pending():
    transport = MemoryTransport(max_pending_seconds=1.0)
    await transport.start(RATE)
    fed = anyio.Event()
    pcm = noise(10 * RATE)

    async def feed():
        await transport.feed(pcm)
        fed.set()
        await transport.end()

    async with anyio.create_task_group() as group:
        group.start_soon(feed)
        await anyio.wait_all_tasks_blocked()
        assert not fed.is_set()
        assert 1.0 < transport.pending_seconds <= 1.5
        heard = await receive_all(transport)
    assert np.array_equal(np.concatenate(heard), pcm)


async def test_fed_audio_is_copied():
    transport = MemoryTransport()
    await transport.start(RATE)
    buffer = np.ones(10, dtype=np.float32)
    await transport.feed(buffer)
    buffer[:] = 0
    assert (await transport.receive()).tolist() == [1.0] * 10


async def test_a_cancelled_receive_loses_nothing():
    transport = MemoryTransport()
    await transport.start(RATE)
    with anyio.move_on_after(0.01):
        await transport.receive()
    await transport.feed(np.ones(10, dtype=np.float32))
    assert (await transport.receive()).size == 10


async def test_closing_wakes_those_who_wait():
    transport = MemoryTransport(max_pending_seconds=0.1)
    await transport.start(RATE)
    woken = []

    async def wait_for(error, call, *args):
        with pytest.raises(error):
            await call(*args)
        woken.append(error)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for, ClosedError, transport.receive)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(wait_for, anyio.EndOfStream, transport.hear)
            await anyio.wait_all_tasks_blocked()
            await transport.aclose()
    other = MemoryTransport(max_pending_seconds=0.1)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for, ClosedError, other.feed, noise(RATE * 5))
            await anyio.wait_all_tasks_blocked()
            await other.aclose()
            await other.aclose()
    assert len(woken) == 3


async def test_hearing_the_agent():
    transport = MemoryTransport()
    await transport.start(RATE)
    heard = []

    async def listen():
        try:
            while True:
                heard.append(await transport.hear())
        except anyio.EndOfStream:
            assert transport.finished

    assert transport.agent_pcm.size == 0
    buffer = np.zeros(1920, dtype=np.float32)
    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        for index in range(5):
            buffer[:] = index
            await transport.send(buffer)
        assert not transport.finished
        await transport.finish()
    assert [frame[0] for frame in heard] == [0, 1, 2, 3, 4]
    assert transport.agent_pcm.shape == (5 * 1920,)
    with pytest.raises(ClosedError):
        await transport.send(buffer)


async def test_a_memory_transport_used_wrongly():
    with pytest.raises(AudioError, match="shape"):
        MemoryTransport(np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(AudioError, match="Hz"):
        MemoryTransport(sample_rate=10)
    with pytest.raises(UsageError, match="max_pending_seconds"):
        MemoryTransport(max_pending_seconds=0)
    transport = MemoryTransport()
    with pytest.raises(UsageError, match="not been started"):
        await transport.receive()
    await transport.start(RATE)
    with pytest.raises(UsageError, match="already"):
        await transport.start(RATE)
    with pytest.raises(AudioError, match="NaN"):
        await transport.feed([np.nan])
    await transport.end()
    with pytest.raises(ClosedError, match="ended"):
        await transport.feed([0.0])
    await transport.aclose()
    with pytest.raises(ClosedError, match="over"):
        await transport.feed([0.0])
    with pytest.raises(ClosedError):
        await transport.start(RATE)
    with pytest.raises(ClosedError):
        await transport.receive()
