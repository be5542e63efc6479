"""What a conversation is given: audio in every form, and errors that say what to write instead."""

import anyio
import numpy as np
import pytest

import duplex
from duplex import AgentAudio, AudioError, Conversation, SessionEnded, SessionStarted, UsageError
from server_support import running

pytestmark = pytest.mark.anyio
FRAME = 1920


def agent_audio(events):
    return np.concatenate([event.pcm for event in events if isinstance(event, AgentAudio)])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("tiny", r"duplex\.load\('tiny'\)"),
        (None, "NoneType, not a duplex.Model; give what duplex.load returned"),
    ],
)
async def test_no_model(model, words):
    with pytest.raises(UsageError, match=words):
        Conversation(model)


@pytest.mark.parametrize(
    ("transport", "words"),
    [
        ("question.wav", r"duplex\.FileTransport\('question\.wav'\)"),
        (anyio.Path("a.wav"), r"duplex\.FileTransport\('a\.wav'\)"),
        (np.zeros(FRAME, np.float32), r"ndarray, not a duplex.Transport.*conversation\.run\(pcm\)"),
    ],
)
async def test_no_transport(models, transport, words):
    with pytest.raises(UsageError, match=words):
        Conversation(models(), transport)
    with pytest.raises(UsageError, match=words):
        duplex.connect("http://127.0.0.1:8998", transport)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bytes_are_little_endian_samples(models, kind):
    samples = np.repeat(np.arange(1, 5, dtype=np.int16) * 512, FRAME)
    async with Conversation(models()) as conversation:
        from_bytes = [event async for event in conversation.run(kind(samples.astype("<i2").tobytes()))]
    async with Conversation(models()) as conversation:
        from_array = [event async for event in conversation.run(samples)]
    assert np.array_equal(agent_audio(from_bytes), agent_audio(from_array))


async def test_a_memoryview_of_numbers_is_an_array(models):
    async with Conversation(models()) as conversation:
        events = [event async for event in conversation.run(memoryview(np.full(FRAME, 0.25, np.float32)))]
    assert np.array_equal(agent_audio(events), np.full(FRAME, 0.125, np.float32))


async def test_bytes_that_end_within_a_sample(models):
    async with Conversation(models()) as conversation:
        with pytest.raises(AudioError, match=r"3 bytes.*two bytes each"):
            await conversation.send(b"\0\0\0")


async def test_a_tensor_that_requires_grad(models):
    torch = pytest.importorskip("torch")
    async with Conversation(models()) as conversation:
        with pytest.raises(AudioError, match=r"tensor\.detach\(\)"):
            await conversation.send(torch.zeros(FRAME, requires_grad=True))
        await conversation.send(torch.zeros(FRAME))


async def test_a_remote_conversation_without_events_of_audio(models):
    with running(models()) as server:
        transport = duplex.MemoryTransport(np.zeros(3 * FRAME, np.float32))
        async with duplex.connect(server.url(), transport, audio_events=False) as conversation:
            assert isinstance(conversation, duplex.Dialogue)
            events = [event async for event in conversation]
    assert isinstance(events[0], SessionStarted)
    assert isinstance(events[-1], SessionEnded)
    assert not [event for event in events if isinstance(event, AgentAudio)]
    assert [event.sequence for event in events] == list(range(len(events)))
    assert len(transport.agent_pcm) == events[-1].usage.frames * FRAME >= 3 * FRAME
