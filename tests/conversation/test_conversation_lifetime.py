"""Who may enter, leave, drop and hold a conversation: any task, an asynchronous generator, nobody."""

import asyncio
import contextlib
import contextvars
import gc
import threading
import warnings

import anyio
import anyio.lowlevel
import pytest
from conversation_support import Gate, loud, nothing_left_behind, of, ramp, reached, until  # noqa: F401

from duplex import AgentAudio, Conversation, EndReason, MemoryTransport, SessionEnded
from duplex.conversation import runner
from duplex.errors import CapacityError, ClosedError, UsageError

pytestmark = pytest.mark.anyio
word = contextvars.ContextVar("word", default="none")


async def converse(model):
    async with Conversation(model) as conversation:
        assert [event async for event in conversation.run(ramp(1))]


async def in_another_task(function, *arguments):
    """Call a function in a task of its own; errors come out as they are."""
    found = []

    async def call():
        try:
            found.append(await function(*arguments))
        except Exception as error:  # noqa: BLE001 -- raised below
            found.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


@contextlib.contextmanager
def warned():
    """Catch what finalizers warn of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield caught


async def test_break_out_of_a_generator_that_holds_it_cancels_nobody(models):
    model = models()

    async def spoken():
        async with Conversation(model) as conversation:
            async for event in conversation.run(ramp(200)):
                yield event

    for _ in range(3):
        events = spoken()
        async for event in events:
            if isinstance(event, AgentAudio):
                break
        await events.aclose()
        await anyio.lowlevel.checkpoint()
        assert model.free == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio warns of generators that the garbage collector closes
async def test_a_generator_that_the_garbage_collector_closes(models):
    model = models()

    async def spoken():
        async with Conversation(model) as conversation:
            async for event in conversation.run(ramp(200)):
                yield event

    async for event in spoken():
        if isinstance(event, AgentAudio):
            break
    gc.collect()
    await until(lambda: model.free == 1)


async def test_one_task_enters_and_another_leaves(models):
    model = models()
    conversation = Conversation(model)
    await in_another_task(conversation.__aenter__)
    found = [event async for event in conversation.run(ramp(3))]
    assert len(of(found, AgentAudio)) == 3
    await in_another_task(conversation.__aexit__, None, None, None)
    assert model.free == 1


async def test_the_entering_task_may_be_cancelled_afterwards(models):
    """What has been entered does not hang on the scope in which it was."""
    conversation = Conversation(models())
    with anyio.CancelScope() as scope:
        await conversation.__aenter__()
        scope.cancel()
        await anyio.sleep_forever()
    found = [event async for event in conversation.run(ramp(2))]
    assert found[-1].reason is EndReason.FINISHED
    await conversation.aclose()


async def test_aclose(models):
    model = models()
    conversation = Conversation(model, MemoryTransport(ramp(1)))
    await conversation.aclose()  # nothing has been entered
    async with conversation:
        await in_another_task(conversation.aclose)
        assert model.free == 1
        assert [event async for event in conversation] == []
    await conversation.aclose()
    with pytest.raises(ClosedError):
        await conversation.export()


async def test_aclose_wakes_whoever_waits_for_events(models):
    found = []
    async with Conversation(models()) as conversation, anyio.create_task_group() as group:

        async def listen():
            found.extend([event async for event in conversation])
            found.append("over")

        group.start_soon(listen)
        await anyio.sleep(0.02)
        await conversation.aclose()
    assert found[-1] == "over"
    assert not of(found, SessionEnded)


async def test_leaving_while_it_waits_for_a_place(models):
    model = models()
    transport = MemoryTransport(ramp(1))
    waiting = Conversation(model, transport, wait=60)
    async with Conversation(model), anyio.create_task_group() as group:

        async def enter():
            with pytest.raises(ClosedError, match="while it was being entered"):
                await waiting.__aenter__()

        group.start_soon(enter)
        await anyio.sleep(0.02)
        await waiting.aclose()
    assert model.free == 1
    with pytest.raises(ClosedError):
        await transport.start(24000)


async def test_a_place_comes_back_when_entering_fails(models):
    model = models()
    async with Conversation(model):
        with pytest.raises(CapacityError):
            await Conversation(model).__aenter__()
    assert model.free == 1


async def test_a_conversation_that_is_dropped_gives_its_place_back(models):
    model, transport = models(), MemoryTransport(ramp(200))
    with warned() as caught:
        conversation = Conversation(model, transport)
        await conversation.__aenter__()
        await anext(conversation)
        del conversation
        gc.collect()
        await until(lambda: model.free == 1)
        with pytest.raises(anyio.EndOfStream):  # its transport is closed
            while True:
                await transport.hear()
    assert "never left" in str(next(each.message for each in caught if each.category is ResourceWarning))


async def test_whoever_waits_gets_the_place_of_one_that_is_dropped(models):
    model = models()
    with warned():
        dropped = Conversation(model)
        await dropped.__aenter__()

        async def wait():
            async with Conversation(model, wait=60):
                return model.free

        async with anyio.create_task_group() as group:
            group.start_soon(in_another_task, wait)
            await anyio.sleep(0.02)
            del dropped
            gc.collect()


async def test_another_event_loop_cannot_use_it(models):
    async with Conversation(models()) as conversation:

        def elsewhere(function, *arguments):
            with pytest.raises(UsageError, match="another event loop"):
                anyio.run(function, *arguments)

        for call in ((conversation.__anext__,), (conversation.send, loud(1)), (conversation.aclose,)):
            await anyio.to_thread.run_sync(elsewhere, *call)
        assert [event async for event in conversation.run(ramp(1))]


async def test_its_own_transport_cannot_leave_it(models):
    class Leaving(MemoryTransport):
        async def receive(self):
            await conversation.aclose()

    conversation = Conversation(models(), Leaving())
    with pytest.raises(UsageError, match="EndOfStream"):
        async with conversation:
            async for _ in conversation:
                pass


async def test_tasks_have_the_caller_s_context(models):
    class Reading(MemoryTransport):
        async def receive(self):
            heard.append(word.get())
            return await super().receive()

    heard = []
    word.set("mine")
    async with Conversation(models(), Reading(ramp(1))) as conversation:
        async for _ in conversation:
            pass
    assert set(heard) == {"mine"}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("which", ["duplex conversation", "Playback.run", "Listener.run"])
async def test_a_task_that_somebody_cancels_ends_the_conversation(models, which):
    model = models()
    async with Conversation(model) as conversation:
        await anext(conversation)
        await anyio.lowlevel.checkpoint()
        tasks = asyncio.all_tasks()
        named = [task for task in tasks if which in task.get_name() or "_guard" in task.get_name()]
        assert named
        named[0].cancel()
        with pytest.raises(ClosedError, match="event loop has ended"):
            async for _ in conversation:
                pass
    assert model.free == 1


async def test_a_transport_that_does_not_close_holds_nobody(models, monkeypatch):
    class Stuck(MemoryTransport):
        async def aclose(self):
            await anyio.sleep_forever()

    monkeypatch.setattr(runner, "CLOSE_SECONDS", 0.05)
    model = models()
    with anyio.CancelScope() as scope:
        async with Conversation(model, Stuck()):
            scope.cancel()
    assert model.free == 1


@pytest.mark.parametrize("anyio_backend", ["trio"])  # asyncio hands an interrupt to whoever runs the loop
async def test_an_interrupt_in_a_task_reaches_the_consumer(models):
    class Interrupted(MemoryTransport):
        async def receive(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with Conversation(models(), Interrupted()) as conversation:
            async for _ in conversation:
                pass


async def test_a_dropped_conversation_in_the_middle_of_a_step(models):
    gate = Gate()
    model = models(on_step=gate)
    with warned():
        conversation = Conversation(model)
        await conversation.__aenter__()
        await conversation.send(loud(2))
        await reached(gate.reached)
        dropper = threading.Thread(target=gc.collect)
        del conversation
        dropper.start()
        await until(lambda: model.free == 1)
        gate.open.set()
        dropper.join()
    await converse(model)
