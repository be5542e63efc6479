"""Exports that nobody waits for any more: the conversation goes on."""

import anyio
import pytest
from conversation_support import FRAME, Gate, loud, nothing_left_behind, of, reached  # noqa: F401

from duplex import AgentAudio, Conversation, EndReason

pytestmark = pytest.mark.anyio
PATIENCE = 20


async def test_who_gives_up_waiting_for_a_conversation_to_stand_still(models):
    """The model's answer comes after that, and after ``go_on()``."""
    gate, found = Gate(), []
    with anyio.fail_after(PATIENCE):
        async with Conversation(models(on_step=gate)) as conversation:
            await conversation.send(loud(3))
            await reached(gate.reached)
            with pytest.raises(TimeoutError), anyio.fail_after(0.05):
                await conversation.export(halt=True)
            conversation.go_on()
            gate.open.set()
            await conversation.finish()
            found = [event async for event in conversation]
    assert found[-1].reason is EndReason.FINISHED
    assert len(of(found, AgentAudio)) == 3


async def test_who_gives_up_when_it_stands_still(models):
    """The events before have not been taken yet."""
    with anyio.fail_after(PATIENCE):
        async with Conversation(models()) as conversation:
            await conversation.send(loud(3))
            with anyio.move_on_after(0.2) as patience:
                await conversation.export(halt=True)
            assert patience.cancelled_caught
            conversation.go_on()
            await conversation.finish()
            found = [event async for event in conversation]
    assert len(of(found, AgentAudio)) == 3


async def test_an_export_after_one_that_was_given_up(models):
    gate = Gate()
    with anyio.fail_after(PATIENCE):
        async with Conversation(models(on_step=gate)) as conversation:
            await conversation.send(loud(1))
            await reached(gate.reached)
            with anyio.move_on_after(0.05):
                await conversation.export(halt=True)
            conversation.go_on()
            gate.open.set()
            state = await conversation.export()
    assert Conversation(conversation.model, state=state).resume_at == FRAME / 24000
