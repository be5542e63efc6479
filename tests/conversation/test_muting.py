"""An agent that is interrupted or muted: what is heard of it, and what is told."""

import numpy as np
import pytest
from conversation_support import FRAME, loud, nothing_left_behind, of  # noqa: F401

import duplex
from duplex import AgentAudio, AgentSpeechStarted, AgentSpeechStopped, AgentText, Conversation, UsageError
from server_support import running

pytestmark = pytest.mark.anyio
SILENCE = np.zeros(FRAME, np.float32)


async def told(conversation, frames):
    """Send the same frame several times; return the events until that many frames of the agent have come."""
    pcm, count = frames
    found = []
    for _ in range(count):
        await conversation.send(pcm)
        async for event in conversation:
            found.append(event)
            if isinstance(event, AgentAudio):
                break
    return found


def is_silent(found):
    return all(not event.pcm.any() for event in of(found, AgentAudio))


async def test_an_interrupted_agent_is_silent_until_it_begins_anew(models):
    async with Conversation(models()) as conversation:
        speaking = await told(conversation, (loud(1), 5))
        assert of(speaking, AgentSpeechStarted)
        assert not is_silent(speaking)
        await conversation.interrupt()
        rest = await told(conversation, (loud(1), 8))
        assert is_silent(rest)
        assert of(rest, AgentSpeechStopped)
        assert all(text.at == speaking[-1].at for text in of(rest, AgentText))  # told after that frame's audio
        await told(conversation, (SILENCE, 6))
        again = await told(conversation, (loud(1), 4))
        assert of(again, AgentSpeechStarted)
        assert not is_silent(again)


async def test_interrupting_a_silent_agent_does_nothing(models):
    async with Conversation(models()) as conversation:
        await told(conversation, (SILENCE, 3))
        await conversation.interrupt()
        assert not is_silent(await told(conversation, (loud(1), 3)))


@pytest.mark.parametrize("frames", [1, 2])
async def test_an_agent_that_has_just_begun_is_interrupted(models, frames):
    """From its first loud frame, before it is known to be speech."""
    async with Conversation(models()) as conversation:
        await told(conversation, (SILENCE, 3))
        assert not is_silent(await told(conversation, (loud(1), frames)))
        await conversation.interrupt()
        rest = await told(conversation, (loud(1), 8))
        assert is_silent(rest)
        assert bool(of(rest, AgentSpeechStopped)) == (frames == 2)
        await told(conversation, (SILENCE, 6))
        assert of(await told(conversation, (loud(1), 4)), AgentSpeechStarted)


async def test_an_interrupted_sound_that_was_no_speech_hides_none_after_it(models):
    async with Conversation(models()) as conversation:
        await told(conversation, (loud(1), 1))
        await conversation.interrupt()
        await told(conversation, (SILENCE, 6))
        again = await told(conversation, (loud(1), 4))
        assert of(again, AgentSpeechStarted)
        assert not is_silent(again)


async def test_a_sound_long_past_is_not_interrupted(models):
    async with Conversation(models()) as conversation:
        await told(conversation, (loud(1), 1))
        await told(conversation, (SILENCE, 3))
        await conversation.interrupt()
        assert not is_silent(await told(conversation, (loud(1), 3)))


async def test_a_muted_agent_is_silent_until_it_is_not(models):
    async with Conversation(models()) as conversation:
        await conversation.mute_agent()
        muted = await told(conversation, (loud(1), 8))
        assert is_silent(muted)
        assert not of(muted, AgentText)
        assert not of(muted, AgentSpeechStarted)
        await conversation.mute_agent(False)
        assert not is_silent(await told(conversation, (loud(1), 2)))


async def test_the_recorder_gets_what_was_heard_and_the_model_s_own_tokens(models):
    class Recorder(list):
        record = list.append

    recorded = Recorder()
    async with Conversation(models(), recorder=recorded) as conversation:
        await conversation.mute_agent()
        await told(conversation, (loud(1), 3))
    assert all(not frame.agent_pcm.any() for frame in recorded)
    plain = Recorder()
    async with Conversation(models(), recorder=plain) as conversation:
        await told(conversation, (loud(1), 3))
    assert [frame.text for frame in recorded] == [frame.text for frame in plain]


async def test_what_waits_to_be_played_is_silenced_too(models):
    transport = duplex.MemoryTransport(loud(20))
    async with Conversation(models(), transport) as conversation:
        await conversation.mute_agent()
        async for _ in conversation:
            pass
    assert len(transport.agent_pcm) == 20 * FRAME
    assert not transport.agent_pcm.any()


async def test_over_the_wire(models):
    with running(models()) as server:
        async with duplex.connect(server.url("?format=pcm")) as conversation:
            assert not is_silent(await told(conversation, (loud(1), 5)))
            await conversation.mute_agent()
            await told(conversation, (loud(1), 5))  # what was on its way
            assert is_silent(await told(conversation, (loud(1), 5)))
            await conversation.mute_agent(False)
            await told(conversation, (loud(1), 5))
            assert not is_silent(await told(conversation, (loud(1), 5)))
            await conversation.interrupt()
            await told(conversation, (loud(1), 5))
            assert is_silent(await told(conversation, (loud(1), 5)))


async def test_before_the_conversation_has_been_entered(models):
    conversation = Conversation(models())
    with pytest.raises(UsageError, match="enter the conversation"):
        await conversation.interrupt()
    with pytest.raises(UsageError, match="enter the conversation"):
        await conversation.mute_agent()
