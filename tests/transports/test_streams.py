"""Transports at other sample rates: resampled on the way in, paced packets on the way out."""

import anyio
import numpy as np
import pytest

from duplex.errors import AudioError, UsageError
from duplex.transports import PacedSender, Pacer, ResampledReceiver, streams

pytestmark = pytest.mark.anyio

RATE = 24000
PHONE = 8000


def tone(rate, seconds):
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def source(pcm, size):
    """Return a ``receive`` of pieces of a size, and an end."""
    pieces = iter([pcm[start : start + size] for start in range(0, pcm.size, size)])

    async def receive():
        await anyio.lowlevel.checkpoint()
        for piece in pieces:
            return piece
        raise anyio.EndOfStream

    return receive


async def receive_all(receiver):
    pieces = []
    try:
        while True:
            pieces.append(await receiver.receive())
    except anyio.EndOfStream:
        return pieces


@pytest.mark.parametrize("size", [1, 160, 4000])
async def test_received_audio_is_resampled_and_never_empty(size):
    receiver = ResampledReceiver(source(tone(PHONE, 0.5), size), PHONE, RATE)
    pieces = await receive_all(receiver)
    assert all(piece.size for piece in pieces)
    heard = np.concatenate(pieces)
    assert heard.size == RATE // 2
    assert np.abs(heard - tone(RATE, 0.5))[400:-400].max() < 1e-2
    with pytest.raises(anyio.EndOfStream):
        await receiver.receive()


async def test_nothing_received():
    assert await receive_all(ResampledReceiver(source(tone(PHONE, 0), 160), PHONE, RATE)) == []


async def test_a_cancelled_receive_loses_nothing():
    sending, receiving = anyio.create_memory_object_stream(10)
    receiver = ResampledReceiver(receiving.receive, PHONE, PHONE)
    with sending, receiving:
        with anyio.move_on_after(0.01):
            await receiver.receive()
        await sending.send(np.ones(160, np.float32))
        assert (await receiver.receive()).size == 160


class Clock:
    """A clock that moves when somebody sleeps, so that times are exact on every machine."""

    EndOfStream = anyio.EndOfStream

    def __init__(self):
        self.now = 0.0

    def current_time(self):
        return self.now

    async def sleep_until(self, deadline):
        self.now = max(self.now, deadline)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(streams, "anyio", made)
    return made


class Line:
    """Takes packets, and notes when each came."""

    def __init__(self, clock):
        self.packets, self.times = [], []
        self.current_time = clock.current_time

    async def send(self, packet):
        self.packets.append(packet)
        self.times.append(self.current_time())

    @property
    def pcm(self):
        return np.concatenate(self.packets)


async def test_packets_are_of_equal_length_and_at_the_clocks_pace(clock):
    line = Line(clock)
    sender = PacedSender(line.send, RATE, PHONE)
    pcm = tone(RATE, 0.4)
    for start in range(0, pcm.size, 1920):
        await sender.send(pcm[start : start + 1920])
    await sender.finish()
    assert {packet.size for packet in line.packets} == {160}
    assert line.pcm.size == round(0.4 * PHONE)
    assert np.abs(line.pcm - tone(PHONE, 0.4))[200:-200].max() < 1e-2
    assert line.times == pytest.approx(0.02 * np.arange(20))


async def test_the_last_packet_is_padded(clock):
    line = Line(clock)
    sender = PacedSender(line.send, PHONE, PHONE)
    await sender.send(np.ones(200, np.float32))
    assert len(line.packets) == 1
    await sender.finish()
    await sender.finish()
    assert line.pcm.tolist() == [1.0] * 200 + [0.0] * 120


async def test_after_a_pause_nothing_is_sent_in_a_burst(clock):
    line = Line(clock)
    sender = PacedSender(line.send, PHONE, PHONE)
    await sender.send(np.ones(320, np.float32))
    clock.now += 0.2
    await sender.send(np.ones(480, np.float32))
    assert line.times == pytest.approx([0.0, 0.02, 0.22, 0.24, 0.26])


async def test_packets_may_be_ahead_of_the_clock(clock):
    pacer, times = Pacer(ahead=0.1), []
    for _ in range(8):
        await pacer.wait(0.02)
        times.append(clock.now)
    assert times == pytest.approx([0.0] * 6 + [0.02, 0.04])


async def test_arguments_out_of_range(clock):
    line = Line(clock)
    with pytest.raises(AudioError, match="Hz"):
        PacedSender(line.send, 10, PHONE)
    with pytest.raises(UsageError, match="positive number of samples"):
        PacedSender(line.send, RATE, PHONE, packet_seconds=0)
    with pytest.raises(UsageError, match="ahead"):
        Pacer(-1)
    with pytest.raises(AudioError, match="Hz"):
        ResampledReceiver(source(tone(PHONE, 0), 1), PHONE, 1)
