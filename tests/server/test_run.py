"""A server that runs in a program: it ends whatever fails, and leaves nothing behind."""

import asyncio
import threading

import anyio
import pytest

from duplex.concurrency.notifiers import ThreadsafeNotifier
from duplex.server.listening import Listening
from duplex.server.run import listen
from server_support import PATIENCE


async def app(_scope, _receive, _send):
    """Answer nobody."""


def test_a_server_ends_whose_draining_fails():
    asked_for, raised = [], []

    async def drain(seconds):
        asked_for.append(seconds)
        raise RuntimeError("what has the calls is gone")

    async def serve():
        asked = ThreadsafeNotifier()
        await listen(app, Listening(port=0), calls=1, drain=drain, asked=asked, started=lambda _: asked.notify())

    def run():
        try:
            anyio.run(serve)
        except BaseExceptionGroup as errors:
            raised.append(errors)

    thread = threading.Thread(target=run, daemon=True)  # it would never end
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert asked_for == [30.0, 0]
    (errors,) = raised
    assert errors.subgroup(RuntimeError) is not None


async def nothing(_seconds):
    """Wait for nobody."""


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_server_accepts_nobody_whose_program_fails_when_told_the_port():
    def started(_port):
        raise RuntimeError("the program's own")

    before = asyncio.all_tasks()
    with pytest.raises(BaseExceptionGroup) as raised:
        await listen(app, Listening(port=0), calls=1, drain=nothing, started=started)
    assert raised.value.subgroup(RuntimeError) is not None
    await anyio.sleep(0.05)
    assert asyncio.all_tasks() == before
