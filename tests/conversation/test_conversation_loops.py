"""Conversations whose event loop ends, or is thrown away, before they do."""

import asyncio
import gc
import warnings

import pytest
from conversation_support import loud, ramp

from duplex import Conversation
from duplex.errors import UsageError


async def converse(model):
    async with Conversation(model) as conversation:
        assert [event async for event in conversation.run(ramp(1))]


@pytest.mark.parametrize("close", [True, False])
def test_an_event_loop_that_is_thrown_away(models, close):
    """Neither it nor its tasks are ended, and still the place is free."""
    model, kept = models(), []

    async def enter_and_leave_it():
        conversation = Conversation(model)
        await conversation.__aenter__()
        await conversation.send(loud(1))
        kept.append(conversation)

    with warnings.catch_warnings(record=True, action="always"):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(enter_and_leave_it())
        if close:
            loop.close()
        assert model.free == 0
        kept.clear()
        gc.collect()
        assert model.free == 1
        asyncio.run(converse(model))
        loop.close()


def test_leaving_it_after_its_event_loop_has_ended(models):
    model = models()

    async def enter():
        return await Conversation(model).__aenter__()

    conversation = asyncio.run(enter())
    assert model.free == 1
    asyncio.run(conversation.aclose())
    with pytest.raises(UsageError, match="another event loop"):
        asyncio.run(conversation.send(loud(1)))
