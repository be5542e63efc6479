"""Messages between a front and the model's process, and the bells that wake them."""

import asyncio
import socket
import threading

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from duplex.errors import CapacityError, ModelError, ServerError, UsageError
from duplex.server.fronts.bell import Bell
from duplex.server.fronts.messages import Link, as_error, described

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request):
    return request.param


async def linked(ours, theirs):
    """Return two links that are each other's ends."""
    links = []
    for end, obey in zip(socket.socketpair(), (ours, theirs), strict=True):
        links.append(Link(*await asyncio.open_unix_connection(sock=end), obey))
    return links


async def test_questions_are_answered_in_any_order_and_errors_cross():
    async def later(told):
        await anyio.sleep(0.01)
        return {"value": told["value"]}

    def obey(name, told):
        if name == "refuse":
            raise CapacityError("all places are taken")
        return later(told) if name == "later" else {"value": told["value"]}

    one, other = await linked(obey, obey)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(other.run)
        answers = {}

        async def ask(name, value):
            answers[name] = (await one.ask(name, value=value))["value"]

        async with anyio.create_task_group() as asking:
            asking.start_soon(ask, "later", 1)
            asking.start_soon(ask, "now", b"2")
        assert list(answers.items()) == [("now", b"2"), ("later", 1)]
        with pytest.raises(CapacityError, match="all places"):
            await other.ask("refuse")
        one.close()
    with pytest.raises(ServerError, match="has ended"):
        await other.ask("now", value=1)


@pytest.mark.parametrize("how", ["at once", "later", "with what cannot be sent", "later with that"])
async def test_an_error_that_nobody_foresaw_is_one_questions(how, caplog):
    """A voice that finds no memory, say: whoever asks is told, and all who talk over this link go on."""

    async def later():
        await anyio.lowlevel.checkpoint()
        if how == "later":
            raise RuntimeError("out of memory")
        return {"value": object()}

    def obey(name, told):
        if name != "fail":
            return {"value": told["value"]}
        if how == "at once":
            raise RuntimeError("out of memory")
        return {"value": object()} if how == "with what cannot be sent" else later()

    one, other = await linked(obey, obey)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(other.run)
        with anyio.fail_after(10):
            one.tell("fail")
            with pytest.raises(ModelError, match=r"out of memory|nothing that a message can have"):
                await one.ask("fail")
            assert (await one.ask("now", value=1))["value"] == 1
        one.close()
    assert "Traceback" in caplog.text


async def test_who_waits_for_an_answer_is_told_that_none_comes():
    asked = anyio.Event()

    def obey(*_):
        asked.set()
        return anyio.sleep(60)

    one, other = await linked(obey, obey)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(other.run)

        async def ask():
            with pytest.raises(ServerError, match="has ended"):
                await one.ask("anything")

        tasks.start_soon(ask)
        await asked.wait()
        other.close()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool", "int32"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3)])
async def test_arrays_are_the_same_afterwards(dtype, shape):
    given = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    got = []
    one, other = await linked(lambda *_: None, lambda _, told: got.append(told["array"]))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(other.run)
        await one.ask("take", array=given)
        one.close()
    assert got[0].dtype == given.dtype
    assert got[0].shape == given.shape
    assert (got[0] == given).all()
    assert got[0].flags.writeable


async def test_what_is_large_lets_others_pass():
    got, done = [], anyio.Event()

    def obey(name, told):
        got.append((name, told))
        if sum(name == "state" for name, _ in got) == 2:
            done.set()

    states = [{f"{number}": np.full(1 << 20, number + state, np.float32) for number in range(4)} for state in range(2)]
    one, other = await linked(lambda *_: None, obey)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(other.run)
        with anyio.fail_after(60):
            for number, each in enumerate(states):
                one.tell("state", number=number, tensors=each)
            await one.ask("small")
            assert [name for name, _ in got] == ["small"]
            await done.wait()
            large = await one.ask("state", number=2, tensors=states[0])
        one.close()
    assert "error" not in large
    assert [told.get("number") for _, told in got] == [None, 0, 1, 2]
    for (_, told), expected in zip(got[1:], (*states, states[0]), strict=True):
        assert told["tensors"].keys() == expected.keys()
        assert all((told["tensors"][key] == expected[key]).all() for key in expected)


async def test_what_is_large_and_cannot_be_sent_ends_the_connection():
    one, other = await linked(lambda *_: None, lambda *_: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(other.run)
        with anyio.fail_after(10), pytest.raises(ServerError, match="has ended"):
            await one.ask("state", array=np.zeros(1 << 20), strange=object())


async def test_what_is_large_ends_with_the_connection():
    one, other = await linked(lambda *_: None, lambda *_: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        one.tell("state", array=np.zeros(1 << 23))
        (telling,) = one._telling
        await anyio.sleep(0.05)
        other.close()
    await asyncio.wait([telling], timeout=10)
    assert telling.done()


def test_errors_of_others_are_the_models():
    assert isinstance(as_error(described(UsageError("give another"))), UsageError)
    strange = as_error(described(ZeroDivisionError("by zero")))
    assert isinstance(strange, ModelError)
    assert "ZeroDivisionError: by zero" in str(strange)


async def test_a_bell_tells_the_last_count_of_each_ring():
    heard, done = [], anyio.Event()

    def hear(ring, written):
        heard.append((ring, written))
        if written == 9:
            done.set()

    ours, theirs = socket.socketpair()
    one, other = Bell(ours, hear), Bell(theirs, hear)
    for ring, written in ((0, 1), (1, 5), (0, 2), (1, 9)):
        one.ring(ring, written)
    with anyio.fail_after(10):
        await done.wait()
    assert heard == [(0, 2), (1, 9)]
    other.close()
    one.ring(0, 3)  # to who is gone
    one.close()
    one.ring(0, 4)
    await anyio.sleep(0.01)


async def test_who_is_late_to_hear_a_bell_hears_the_last_count():
    heard, last = asyncio.Queue(), 5000
    ours, theirs = socket.socketpair()
    bell = Bell(ours, lambda *_: None)
    thread = threading.Thread(target=lambda: [bell.ring(0, count) for count in range(1, last + 1)])
    thread.start()
    thread.join()
    bell.ring(1, 7)
    await anyio.sleep(0.01)
    other = Bell(theirs, lambda *told: heard.put_nowait(told))
    with anyio.fail_after(10):
        counts = {}
        while counts != {0: last, 1: 7}:
            ring, count = await heard.get()
            counts[ring] = max(count, counts.get(ring, 0))
        bell.ring(0, last + 1)
        while await heard.get() != (0, last + 1):
            pass
    bell.close()
    other.close()


async def test_who_is_woken_for_nothing_hears_the_next():
    heard = anyio.Event()
    ours, theirs = socket.socketpair()
    one, other = Bell(ours, lambda *_: None), Bell(theirs, lambda *_: heard.set())
    other._read()
    one.ring(0, 1)
    with anyio.fail_after(10):
        await heard.wait()
    one.close()
    other.close()
