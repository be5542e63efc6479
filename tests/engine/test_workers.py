"""Threads that compute: results come back to whoever asked, however many ask, and nothing stays behind."""

import threading
import time

import anyio
import pytest

from duplex.engine.workers import Workers
from duplex.errors import ClosedError

pytestmark = pytest.mark.anyio
NAME = "duplex-test"


def running():
    return [thread for thread in threading.enumerate() if thread.name.startswith(NAME)]


def gone():
    for thread in running():
        thread.join(5)
    return not running()


async def test_everybody_gets_what_is_theirs():
    found = {}

    async def ask(number):
        found[number] = await workers.run(lambda given: (given, threading.current_thread().name), number)

    with Workers(NAME, 2) as workers:
        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(ask, number)
    assert [found[number][0] for number in range(500)] == list(range(500))
    assert all(name.startswith(NAME) for _, name in found.values())
    assert gone()


async def test_an_error_is_raised_where_it_was_asked_for():
    with Workers(NAME, 2) as workers:
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda given: 1 / given, 0)
        assert await workers.run(lambda given: 1 / given, 2) == 0.5


async def test_who_is_cancelled_waits_no_longer():
    with Workers(NAME, 2) as workers:
        with anyio.move_on_after(0.05):
            await workers.run(time.sleep, 0.5)
        assert await workers.run(str, 1) == "1"
    assert gone()


async def test_it_begins_again():
    """Callers come and go; old threads may still be ending."""
    workers = Workers(NAME, 2)
    for _ in range(20):
        with workers:
            assert await workers.run(str, 1) == "1"
    assert gone()


async def test_outside_of_the_block_nobody_is_left_waiting():
    workers = Workers(NAME, 1)
    with pytest.raises(ClosedError, match="closed"):
        await workers.run(str, 1)
    with workers:
        assert await workers.run(str, 1) == "1"
    with pytest.raises(ClosedError, match="closed"):
        await workers.run(str, 1)


def test_each_event_loop_gets_its_own():
    async def ask(first):
        async def one(number):
            assert await workers.run(lambda given: given + 1, number) == number + 1

        async with anyio.create_task_group() as tasks:
            for number in range(first, first + 100):
                tasks.start_soon(one, number)

    with Workers(NAME, 2) as workers:
        loops = [threading.Thread(target=anyio.run, args=(ask, 1000 * number)) for number in range(4)]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.join(30)
            assert not loop.is_alive()
