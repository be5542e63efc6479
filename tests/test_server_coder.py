"""The threads that code: results come back to whoever asked, however many ask, and nothing stays behind."""

import threading
import time

import anyio
import pytest

from duplex.server.coder import Coder

pytestmark = pytest.mark.anyio


def running():
    return [thread for thread in threading.enumerate() if thread.name.startswith("duplex-coding")]


def gone():
    for thread in running():
        thread.join(5)
    return not running()


async def test_everybody_gets_what_is_theirs():
    found = {}

    async def ask(number):
        found[number] = await coder.run(lambda given: (given, threading.current_thread().name), number)

    with Coder() as coder:
        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(ask, number)
    assert [found[number][0] for number in range(500)] == list(range(500))
    assert all(name.startswith("duplex-coding") for _, name in found.values())
    assert gone()


async def test_an_error_is_raised_where_it_was_asked_for():
    with Coder() as coder:
        with pytest.raises(ZeroDivisionError):
            await coder.run(lambda given: 1 / given, 0)
        assert await coder.run(lambda given: 1 / given, 2) == 0.5


async def test_who_is_cancelled_waits_no_longer():
    with Coder() as coder:
        with anyio.move_on_after(0.05):
            await coder.run(time.sleep, 0.5)
        assert await coder.run(str, 1) == "1"
    assert gone()


async def test_it_begins_again():
    """Callers come and go; old threads may still be ending."""
    coder = Coder()
    for _ in range(20):
        with coder:
            assert await coder.run(str, 1) == "1"
    assert gone()
