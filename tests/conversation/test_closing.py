"""Conversations of which a part cannot be closed: all others are, and whoever leaves is told."""

import gc
import warnings

import anyio
import pytest
from conversation_support import Gate, loud, nothing_left_behind, ramp, reached, until  # noqa: F401

from duplex import Conversation, EndReason, MemoryTransport
from duplex.errors import ClosedError, ModelError

pytestmark = pytest.mark.anyio
PATIENCE = 15


class Unclosable:
    """A transcriber that hears nothing, whose transcription cannot be closed."""

    def open(self, _rate, *, realtime):  # noqa: ARG002 -- the protocol's name
        return self

    def hear(self, at, pcm):
        pass

    def turn(self, *, started, at):
        pass

    async def room(self):
        pass

    def finish(self):
        pass

    async def receive(self):
        raise anyio.EndOfStream

    def close(self):
        raise OSError("the transcriber cannot be closed")


class Watched(MemoryTransport):
    closed = 0

    async def aclose(self):
        self.closed += 1
        await super().aclose()


async def test_leaving(models):
    transport = Watched(ramp(200))
    conversation = Conversation(models(), transport, transcriber=Unclosable())
    with pytest.raises(OSError, match="cannot be closed"), anyio.fail_after(PATIENCE):
        async with conversation:
            await anext(conversation)
    assert transport.closed == 1
    assert not conversation._runner.running
    await conversation.aclose()  # it has been told


async def test_the_end(models):
    found, transport = [], Watched(ramp(3))
    with pytest.raises(OSError, match="cannot be closed"), anyio.fail_after(PATIENCE):
        async with Conversation(models(), transport, transcriber=Unclosable()) as conversation:
            async for event in conversation:
                found.append(event)
    assert found[-1].reason is EndReason.FINISHED
    assert transport.finished
    assert transport.closed == 1


async def test_a_failure_reaches_the_consumer_first(models):
    def on_step(_):
        raise RuntimeError("out of memory")

    transport = Watched(ramp(3))
    with pytest.raises(OSError, match="cannot be closed") as left, anyio.fail_after(PATIENCE):
        async with Conversation(models(on_step=on_step), transport, transcriber=Unclosable()) as conversation:
            async for _ in conversation:
                pass
    assert isinstance(left.value.__context__, ModelError)
    assert transport.closed == 1


async def test_who_waits_for_an_export(models):
    gate, told = Gate(), []

    async def export(conversation):
        with pytest.raises(ClosedError):
            await conversation.export()
        told.append("over")

    conversation = Conversation(models(on_step=gate), transcriber=Unclosable())
    await conversation.__aenter__()
    await conversation.send(loud(2))
    await reached(gate.reached)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(export, conversation)
            await anyio.sleep(0.02)
            with pytest.raises(OSError, match="cannot be closed"):
                await conversation.aclose()
            gate.open.set()
    assert told == ["over"]


async def test_one_that_is_dropped(models):
    model, transport = models(), Watched(ramp(200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        conversation = Conversation(model, transport, transcriber=Unclosable())
        await conversation.__aenter__()
        del conversation
        gc.collect()
    with anyio.fail_after(PATIENCE):
        await until(lambda: transport.closed)
    assert model.free == 1
