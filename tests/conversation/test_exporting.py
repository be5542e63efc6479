"""Exports that nobody waits for any more, or that could not be begun: the conversation goes on, and so do others."""

import anyio
import pytest
from conversation_support import FRAME, Gate, loud, nothing_left_behind, of, reached  # noqa: F401

from duplex import AgentAudio, Conversation, EndReason
from duplex.conversation.exporting import Exports
from duplex.errors import ClosedError, ModelError
from duplex.transports.memory import MemoryTransport

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


async def test_a_conversation_that_is_left_before_its_events_are_taken(models):
    """Nobody waits for a conversation to stand still that is over, nor for audio that a transport never takes."""
    sending, failed = anyio.Event(), []

    class Busy(MemoryTransport):
        async def send(self, _):
            sending.set()
            await anyio.sleep_forever()

    async def export(conversation):
        with pytest.raises(ClosedError, match="left before"):
            await conversation.export(halt=True)
        failed.append(True)

    for transport in (None, Busy()):
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                async with Conversation(models(), transport) as conversation:
                    if transport is None:
                        await conversation.send(loud(3))
                    else:
                        await transport.feed(loud(3))
                        await sending.wait()
                    tasks.start_soon(export, conversation)
                    await anyio.sleep(0.2)
    assert failed == [True, True]


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


async def test_an_export_that_cannot_be_begun_takes_nobody_s_answer():
    def begin():
        raise ModelError("the ring is full")

    exports, answers = Exports(), []
    with pytest.raises(ModelError, match="the ring is full"):
        await exports.ask(begin)
    assert not exports

    async def ask():
        with pytest.raises(ModelError, match="its own answer"):
            await exports.ask(lambda: answers.append(ModelError("its own answer")))

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.sleep(0.01)
            exports.finish(answers.pop())
