"""Many conversations on one model, and conversations that go on elsewhere."""

import threading

import anyio
import anyio.to_thread
import numpy as np
import pytest
from conversation_support import (  # noqa: F401
    DELAYS,
    FRAME,
    Gate,
    Kept,
    Live,
    check_order,
    loud,
    nothing_left_behind,
    of,
    pcm_of,
    ramp,
    reached,
    until,
)

from duplex import (
    AgentAudio,
    AgentText,
    Conversation,
    MemoryTransport,
    SessionOptions,
)
from duplex.conversation.session import EventQueue
from duplex.errors import (
    CapacityError,
    ClosedError,
    StateError,
)

pytestmark = pytest.mark.anyio


def plain(found):
    """Events as comparable values."""
    return [(event.as_dict(), getattr(event, "pcm", np.zeros(0)).tobytes()) for event in found]


async def test_one_more_than_fits(models):
    model = models(capacity=2)
    async with Conversation(model), Conversation(model):
        assert model.free == 0
        with pytest.raises(CapacityError, match="wait"):
            async with Conversation(model):
                pass
        with pytest.raises(CapacityError):
            async with Conversation(model, wait=0.01):
                pass
    assert model.free == 2


async def test_waiting_for_a_place(models):
    model, order = models(), []

    async def wait_for_it():
        async with Conversation(model, wait=30) as conversation:
            order.append("in")
            async for _ in conversation.run(ramp(1)):
                pass

    async with anyio.create_task_group() as group, Conversation(model):
        group.start_soon(wait_for_it)
        await anyio.wait_all_tasks_blocked()
        order.append("out")
    assert order == ["out", "in"]


async def test_waiting_ends_when_the_model_is_closed(models):
    model = models()

    async def wait_for_it():
        with pytest.raises(ClosedError):
            async with Conversation(model, wait=1000):
                pass

    async with anyio.create_task_group() as group, Conversation(model) as conversation:
        group.start_soon(wait_for_it)
        await anyio.wait_all_tasks_blocked()
        await anyio.to_thread.run_sync(model.close)
        with pytest.raises(ClosedError):
            async for _ in conversation:
                pass


async def test_many_conversations_with_options_of_their_own(models):
    choices = [SessionOptions(seed=seed, top_k=seed % 3, temperature=seed / 4) for seed in range(6)]
    choices += [SessionOptions(seed=1, greedy=True)]

    async def converse(model, options):
        async with Conversation(model, options=options) as conversation:
            return plain([event async for event in conversation.run(ramp(12))][1:])

    alone = [await converse(models(), options) for options in choices]
    assert len({str(found) for found in alone}) == len(choices)
    together, model = {}, models(capacity=len(choices))

    async def one(index):
        together[index] = await converse(model, choices[index])

    async with anyio.create_task_group() as group:
        for index in range(len(choices)):
            group.start_soon(one, index)
    assert [together[index] for index in range(len(choices))] == alone


async def test_several_event_loops_share_a_model(models):
    """Both libraries' loops, in threads of their own, on one model."""
    model, answers = models(capacity=4), {}

    async def converse(index):
        for _ in range(5):
            async with Conversation(model, options=SessionOptions(seed=3)) as conversation:
                answers.setdefault(index, []).append(plain([event async for event in conversation.run(ramp(10))][1:]))

    threads = [
        threading.Thread(target=anyio.run, args=(converse, index), kwargs={"backend": ["asyncio", "trio"][index % 2]})
        for index in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join, 60)
        assert not thread.is_alive()
    assert sorted(answers) == [0, 1, 2, 3]
    assert all(answer == answers[0][0] for each in answers.values() for answer in each)


async def test_seeds(models):
    model = models()

    async def seed_of(transport=None, **options):
        async with Conversation(model, transport, options=SessionOptions(**options)) as conversation:
            return (await anext(conversation)).seed

    assert await seed_of() == 0
    assert await seed_of(seed=2**64 - 1) == 2**64 - 1
    assert await seed_of(Live(), seed=5) == 5
    drawn = {await seed_of(Live()) for _ in range(3)}
    assert len(drawn) == 3


async def test_a_live_conversation_replays_with_the_seed_it_told(models):
    model = models()
    async with Conversation(model, MemoryTransport(ramp(5), realtime=True)) as conversation:
        live = [event async for event in conversation]
    options = SessionOptions(seed=live[0].seed)
    async with Conversation(model, options=options) as conversation:
        replayed = [event async for event in conversation.run(ramp(5))]
    assert plain(of(live, AgentText)) == plain(of(replayed, AgentText))
    assert np.array_equal(pcm_of(live), pcm_of(replayed))


@pytest.mark.parametrize("delays", DELAYS)
@pytest.mark.parametrize("taken", [0, 1, 7, 24])
async def test_a_conversation_goes_on_elsewhere(models, delays, taken):
    random = np.random.default_rng(1)
    pcm = np.repeat(np.where(random.random(15) < 0.5, 0.1, 0.0).astype(np.float32), 2 * FRAME)
    options, kept = SessionOptions(seed=21), Kept()
    async with Conversation(models(delays=delays), options=options) as conversation:
        whole = [event async for event in conversation.run(pcm)]
    late = int(max(delays) > 1)
    async with Conversation(models(delays=delays), options=options, recorder=kept) as conversation:
        await conversation.send(pcm[: taken * FRAME])
        await until(lambda: len(kept.frames) == max(taken - late, 0))
        await until(
            lambda: (
                conversation._runner.seat.waiting == 0 and len(conversation._runner.seat.in_flight) == min(late, taken)
            )
        )
        saved = await conversation.export()
        begun = []
        while conversation._runner.queue._waiting:
            begun.append(await anext(conversation))
        session_id = conversation.session_id
    async with Conversation(models(delays=delays), state=saved) as conversation:
        assert conversation.session_id == session_id
        moved = [event async for event in conversation.run(pcm[taken * FRAME :])]
    assert moved[0].sequence == len(begun)
    assert (moved[0].session_id, moved[0].seed) == (session_id, 21)
    joined = begun + moved[1:]
    assert len(joined) == len(whole)
    ours, theirs = plain(joined)[1:], plain(whole)[1:]
    for (record, _), (expected, _) in zip(ours, theirs, strict=True):
        record.pop("sequence")
        expected.pop("sequence")
    assert ours == theirs
    assert [event.sequence for event in moved] == list(range(len(begun), len(begun) + len(moved)))


async def test_the_original_goes_on_after_an_export(models):
    async with Conversation(models()) as conversation:
        await conversation.send(ramp(20)[: 10 * FRAME])
        assert isinstance(await conversation.export(), bytes)
        await conversation.send(ramp(20)[10 * FRAME :])
        await conversation.finish()
        found = [event async for event in conversation]
    check_order(found)
    assert np.array_equal(pcm_of(found), ramp(20) * np.float32(0.5))


async def test_the_consumer_may_export_while_events_wait(models):
    """Nobody takes events meanwhile: a full queue must not hold the export up."""
    async with Conversation(models()) as conversation:
        stream = conversation.run(loud(1000))
        found = [await anext(stream)]
        await until(lambda: conversation._runner.queue.full)
        saved = await conversation.export()
        found += [event async for event in stream]
    check_order(found)
    assert len(of(found, AgentAudio)) == 1000
    async with Conversation(models(), state=saved) as conversation:
        resumed = [event async for event in conversation.run(loud(1))]
    assert resumed[0].sequence > EventQueue.OFFLINE_EVENTS
    assert resumed[1].at == pytest.approx((resumed[0].sequence - 2) * 0.08, abs=20)


async def test_exports_end_with_the_conversation(models):
    gate = Gate()
    model = models(on_step=gate)

    async def export(conversation):
        with pytest.raises(ClosedError):
            await conversation.export()

    async with anyio.create_task_group() as group, Conversation(model) as conversation:
        await conversation.send(loud(1))
        await reached(gate.reached)
        group.start_soon(export, conversation)
        await anyio.wait_all_tasks_blocked()
    gate.open.set()


async def test_states_that_cannot_be_used(models):
    model = models()
    async with Conversation(model) as conversation:
        await conversation.send(loud(2))
        saved = await conversation.export()
    for damaged in (b"", b"nonsense", saved[:-7], saved[: len(saved) // 2]):
        with pytest.raises(StateError):
            Conversation(model, state=damaged)
    other = models(delays=(0, 0, 2, 0, 2))
    with pytest.raises(StateError, match="another model"):
        async with Conversation(other, state=saved) as conversation:
            async for _ in conversation.run(loud(1)):
                pass
    assert model.free == other.free == 1
