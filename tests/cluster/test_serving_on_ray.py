"""``duplex serve --ray``: real replicas in a real cluster of this machine, and what happens when one dies."""

import os
import re
import signal

import anyio
import psutil
import pytest
from ray_support import Command

import duplex
from cli_support import SMALL
from duplex.events import AgentAudio, EndReason, SessionStarted
from server_support import ask, get, tone, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    """One event loop will do: the client's tests run on both, and the last test here ends the command."""
    return "asyncio"


@pytest.fixture(scope="module")
def served(cluster, tmp_path_factory):
    states = tmp_path_factory.mktemp("states")
    options = ("--replicas", "2:2", "--worker-cpus", "0.5", "--model", SMALL, "--sessions", "2", "--queue", "0")
    command = Command(cluster, *options, "--state-store", states, "--drain", "20")
    yield command
    command.stop()


async def hold(url, seconds):
    async with duplex.connect(url) as conversation:
        return [event async for event in conversation.run(tone(seconds))]


async def has_places(served):
    """Wait until the door would send the next caller somewhere."""
    await anyio.to_thread.run_sync(until, lambda: get(served.door, "/readyz")[0] == 200)


async def test_callers_are_placed_heard_and_answered(served):
    found = []

    async def one():
        found.append(await hold(served.door.url(), 1.0))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(one)
    for events in found:
        assert isinstance(events[0], SessionStarted)
        assert any(isinstance(event, AgentAudio) for event in events)
        assert events[-1].reason is EndReason.FINISHED
    text = get(served.door, "/metrics")[2]
    ended = re.findall(r'duplex_calls_ended_total\{reason="finished",replica="\w+"\} (\S+)', text)
    assert sorted(map(float, ended)) == [2.0, 2.0]
    assert "<html" in get(served.door, "/")[2]


def test_replicas_and_the_ingress_listen_on_the_loopback_address_alone(served):
    """So does all that Ray starts beside them."""
    heard = set()
    replicas = served.replicas()
    assert len(replicas) == 2
    raylet = replicas[0].parent()
    for each in [psutil.Process(served.process.pid), raylet, *raylet.children(recursive=True)]:
        sockets = each.net_connections(kind="inet")
        heard |= {one.laddr.ip.removeprefix("::ffff:") for one in sockets if one.status == "LISTEN"}
    assert heard == {"127.0.0.1"}


async def test_a_call_of_a_replica_that_is_killed_goes_on_and_another_is_started(served):
    notes = []
    await has_places(served)  # of calls that have just ended the door hears a moment later
    before = {each.pid for each in served.replicas()}
    async with (
        duplex.connect(served.door.url(), interrupted=notes.append) as conversation,
        anyio.create_task_group() as tasks,
    ):

        async def talk():
            await conversation.send(tone(2.0))
            await anyio.sleep(6.0)  # in which it has been kept
            holder = await anyio.to_thread.run_sync(holder_of, served, conversation)
            os.kill(holder, signal.SIGKILL)
            await conversation.send(tone(1.0))
            await conversation.finish()

        tasks.start_soon(talk)
        with anyio.fail_after(60):
            events = [event async for event in conversation]
    assert notes[:2] == [True, False]
    assert [event.sequence for event in events] == list(range(len(events)))
    assert [type(event) for event in events].count(SessionStarted) == 1
    assert events[-1].reason is EndReason.FINISHED
    with anyio.fail_after(120):
        while True:
            now = {each.pid for each in await anyio.to_thread.run_sync(served.replicas)}
            if len(now) == 2 and now != before and '"replicas":2' in get(served.door, "/readyz")[2]:
                break
            await anyio.sleep(0.5)
    assert (await hold(served.door.url(), 0.2))[-1].reason is EndReason.FINISHED


def holder_of(served, conversation):
    """The process that a conversation's websocket leads to."""
    port = int(re.search(r":(\d+)/", conversation._runner.line._address)[1])
    for each in served.replicas():
        if any(one.status == "LISTEN" and one.laddr.port == port for one in each.net_connections(kind="inet")):
            return each.pid
    raise AssertionError("no replica listens there")


async def test_a_command_that_is_stopped_lets_calls_end_and_leaves_nothing(served):
    replicas = served.replicas()
    await has_places(served)
    async with duplex.connect(served.door.url()) as conversation, anyio.create_task_group() as tasks:

        async def talk():
            await conversation.send(tone(0.8))
            await anyio.sleep(0.5)
            served.process.send_signal(signal.SIGTERM)
            await anyio.sleep(2.0)
            assert ask(served.door, "POST", "/api/place")[0] == 503
            await conversation.send(tone(0.8))
            await conversation.finish()

        tasks.start_soon(talk)
        with anyio.fail_after(60):
            events = [event async for event in conversation]
    assert events[-1].reason is EndReason.FINISHED
    assert await anyio.to_thread.run_sync(served.process.wait, 60) == 0
    _, alive = await anyio.to_thread.run_sync(psutil.wait_procs, replicas, 30)
    assert alive == []
