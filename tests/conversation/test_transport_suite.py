"""The conformance suite for transports, on the transports that are here and on broken ones."""

import anyio
import anyio.to_thread
import numpy as np
import pytest
from conversation_support import FRAME, loud, nothing_left_behind, of, ramp  # noqa: F401

import duplex
from duplex import (
    AgentAudio,
    Conversation,
    MemoryTransport,
)
from duplex.testing import check_transport

pytestmark = pytest.mark.anyio


async def test_the_transport_suite():
    pcm = ramp(12)
    await check_transport(lambda: MemoryTransport(pcm))
    await check_transport(lambda: MemoryTransport(pcm, realtime=True))


async def test_file_transport_conforms(tmp_path):
    from duplex.audio.wav import WavWriter  # noqa: PLC0415

    path = tmp_path / "in.wav"
    writer = WavWriter(path, channels=1, sample_rate=24000)
    writer.write(ramp(12))
    writer.commit()
    names = iter(range(99))
    await check_transport(lambda: duplex.FileTransport(path, tmp_path / f"{next(names)}.wav"))


class Endless(MemoryTransport):
    async def receive(self):
        await anyio.sleep_forever()


class Integers(MemoryTransport):
    async def receive(self):
        return (await super().receive()).astype(np.float64)


async def test_the_transport_suite_finds_faults():
    with pytest.raises(AssertionError, match="hangs"):
        await check_transport(lambda: Endless(ramp(3)), within=0.1)
    with pytest.raises(AssertionError, match="float64"):
        await check_transport(lambda: Integers(ramp(3)))
    with pytest.raises(AssertionError, match="says something"):
        await check_transport(lambda: MemoryTransport(np.zeros(0, np.float32)))


async def test_without_events_of_audio_the_transport_alone_has_the_voice(models):
    transport = MemoryTransport(loud(6))
    async with Conversation(models(), transport, audio_events=False) as conversation:
        found = [event async for event in conversation]
    assert not of(found, AgentAudio)
    assert [event.sequence for event in found] == list(range(len(found)))
    assert len(np.concatenate(transport.played)) == 6 * FRAME
