"""Conversations that fail, are left, or are cancelled: one error, one end, and nothing left behind."""

import gc
import weakref

import anyio
import anyio.to_thread
import numpy as np
import pytest
from conversation_support import FRAME, Gate, check_order, loud, nothing_left_behind, of, ramp, reached  # noqa: F401

from duplex import (
    AgentAudio,
    Conversation,
    EndReason,
    MemoryTransport,
    SessionEnded,
)
from duplex.errors import (
    AudioError,
    ClosedError,
    ModelError,
    UsageError,
)

pytestmark = pytest.mark.anyio


def fail_at(number):
    def on_step(step):
        if step == number:
            raise RuntimeError("out of memory")

    return on_step


async def test_misuse(models):
    model = models(capacity=3)
    early = Conversation(model)
    with pytest.raises(UsageError, match="enter"):
        await anext(early)
    with pytest.raises(UsageError, match="enter"):
        await early.send(loud(1))
    with pytest.raises(UsageError, match="enter"):
        early.run(loud(1))
    with pytest.raises(ClosedError):
        await early.export()
    async with Conversation(model, MemoryTransport(loud(1))) as conversation:
        with pytest.raises(UsageError, match="transport"):
            await conversation.send(loud(1))
        with pytest.raises(UsageError, match="transport"):
            await conversation.finish()
        with pytest.raises(UsageError, match="transport"):
            conversation.run(loud(1))
    with pytest.raises(UsageError, match="make another"):
        await conversation.__aenter__()
    async with Conversation(model) as conversation:
        with pytest.raises(AudioError, match="NaN"):
            await conversation.send(np.full(10, np.nan))
        with pytest.raises(AudioError, match="shape"):
            await conversation.send(np.zeros((2, 10)))
        await conversation.finish()
        with pytest.raises(ClosedError):
            await conversation.send(loud(1))
    with pytest.raises(ClosedError):
        await conversation.send(loud(1))
    with pytest.raises(ClosedError):
        await conversation.export()
    with pytest.raises(AudioError, match="rate"):
        Conversation(model, sample_rate=12)


async def test_a_model_that_fails(models):
    found = []
    with pytest.raises(ModelError, match="out of memory") as caught:
        async with Conversation(models(on_step=fail_at(3))) as conversation:
            async for event in conversation.run(ramp(9)):
                found.append(event)
    assert isinstance(caught.value.__cause__, RuntimeError)
    check_order(found)
    assert found[-1].reason is EndReason.FAILED
    assert len(of(found, AgentAudio)) == 3
    with pytest.raises(StopAsyncIteration):
        await anext(conversation)


async def test_a_model_that_cannot_open(models):
    def on_open(_slot):
        raise MemoryError("none left")

    model = models(on_open=on_open)
    with pytest.raises(ModelError, match="none left"):
        async with Conversation(model) as conversation:
            async for _ in conversation.run(ramp(2)):
                pass
    assert model.free == 1


async def test_a_failure_with_a_sender_beside_is_one_error(models):
    """Whoever is still sending is not a second error."""

    async def push(conversation):
        while True:
            await conversation.send(loud(50))

    with pytest.raises(ExceptionGroup) as caught:
        async with Conversation(models(on_step=fail_at(30))) as conversation, anyio.create_task_group() as group:
            group.start_soon(push, conversation)
            async for _ in conversation:
                pass
    assert [type(error) for error in caught.value.exceptions] == [ModelError]


async def test_sending_first_to_a_model_that_fails_does_not_hang(models):
    async with Conversation(models(on_step=fail_at(0))) as conversation:
        for _ in range(20):
            await conversation.send(loud(25))
        await conversation.finish()
        with pytest.raises(ModelError):
            async for _ in conversation:
                pass


class Failing(MemoryTransport):
    def __init__(self, method, **options):
        super().__init__(ramp(5), **options)
        self.method = method
        self.closed = 0

    async def _maybe(self, method):
        await anyio.lowlevel.checkpoint()
        if method == self.method:
            raise OSError(f"the line is dead: {method}")

    async def start(self, sample_rate):
        await self._maybe("start")
        await super().start(sample_rate)

    async def receive(self):
        await self._maybe("receive")
        return await super().receive()

    async def send(self, pcm):
        await self._maybe("send")
        await super().send(pcm)

    async def finish(self):
        await self._maybe("finish")
        await super().finish()

    async def aclose(self):
        self.closed += 1
        await super().aclose()
        await self._maybe("aclose")


@pytest.mark.parametrize("realtime", [False, True])
@pytest.mark.parametrize("method", ["start", "receive", "send", "finish"])
async def test_a_transport_that_fails(models, method, realtime):
    transport, found = Failing(method, realtime=realtime), []
    with pytest.raises(OSError, match=method):
        async with Conversation(models(), transport) as conversation:
            async for event in conversation:
                found.append(event)
    check_order(found)
    assert found[-1].reason is EndReason.FAILED
    assert transport.closed == 1


async def test_a_transport_that_fails_to_close_leaves_nothing_behind(models):
    found = []
    with pytest.raises(OSError, match="aclose"):
        async with Conversation(models(), Failing("aclose")) as conversation:
            async for event in conversation:
                found.append(event)
    check_order(found)


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_break(models, after):
    transport = MemoryTransport(ramp(200))
    model = models()
    async with Conversation(model, transport) as conversation:
        async for event in conversation:
            if event.sequence == after:
                break
    assert not transport.finished
    with pytest.raises(StopAsyncIteration):
        await anext(conversation)
    assert model.free == 1


async def test_leaving_at_once(models):
    model = models()
    for _ in range(5):
        async with Conversation(model):
            pass
    assert model.free == 1


async def test_the_block_s_own_error_comes_out_as_it_is(models):
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with Conversation(models()) as conversation:
            await conversation.send(loud(3))
            raise error
    assert caught.value is error


@pytest.mark.parametrize("realtime", [False, True])
async def test_cancellation_from_outside(models, realtime):
    model, found = models(), []
    transport = MemoryTransport(realtime=realtime)
    async with anyio.create_task_group() as group:

        async def converse():
            async with Conversation(model, transport) as conversation:
                async for event in conversation:
                    found.append(event)

        group.start_soon(converse)
        await transport.feed(loud(4))
        while len(found) < 4:
            await anyio.sleep(0.001)
        group.cancel_scope.cancel()
    assert not of(found, SessionEnded)
    assert not transport.finished
    assert model.free == 1


async def test_cancellation_while_the_model_is_in_a_step(models):
    gate = Gate()
    model = models(on_step=gate)
    with anyio.CancelScope() as scope:
        async with Conversation(model) as conversation:
            await conversation.send(loud(3))
            await reached(gate.reached)
            scope.cancel()
            await anext(conversation)
    assert scope.cancelled_caught
    assert model.free == 1
    gate.open.set()


async def test_closing_the_model_while_conversations_go_on(models):
    model, ended = models(capacity=2), []

    async def converse():
        found = []
        async with Conversation(model) as conversation:
            await conversation.send(loud(2))
            try:
                async for event in conversation:
                    found.append(event)
            except ClosedError:
                ended.append(found)

    async with anyio.create_task_group() as group:
        group.start_soon(converse)
        group.start_soon(converse)
        while model.free:
            await anyio.sleep(0.001)
        await anyio.to_thread.run_sync(model.close)
    assert len(ended) == 2
    for found in ended:
        check_order(found)
        assert found[-1].reason is EndReason.FAILED
    with pytest.raises(ClosedError):
        async with Conversation(model):
            pass
    with pytest.raises(ClosedError):
        _ = model.codec


async def test_nothing_is_kept_alive(models):
    model = models()
    async with Conversation(model) as conversation:
        async for _ in conversation.run(ramp(3)):
            pass
    kept = weakref.ref(conversation)
    del conversation
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
        gc.collect()
    assert kept() is None
