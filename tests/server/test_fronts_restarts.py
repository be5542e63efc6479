"""Fronts that do not start, cannot be started, or seem to hang: what the model's process makes of it."""

import contextlib
import functools
import gc
import json
import os
import queue
import resource
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import anyio
import psutil
import pytest
from anyio.from_thread import start_blocking_portal

from duplex.errors import ServerError
from duplex.server import Listening, serve
from duplex.server.fronts import front_process, model_process
from duplex.server.fronts.front_process import FrontProcess, Hall
from duplex.server.fronts.plan import SharedMemory
from duplex.testing import fake_model
from duplex.transports import wire
from server_support import PATIENCE, Server, get, running, until


def fronts():
    return {each.pid for each in psutil.Process().children() if runs_front(each)}


def runs_front(child):
    with contextlib.suppress(psutil.Error):  # one that has just ended
        return is_front(child.cmdline())
    return False


def is_front(command):
    return "duplex.server.fronts" in command


@pytest.fixture
def refusing(monkeypatch):
    """Give what refuses to start so many fronts."""
    left, start = SimpleNamespace(refusals=0), subprocess.Popen

    def maybe(command, *arguments, **options):
        if is_front(command) and left.refusals:
            left.refusals -= 1
            raise BlockingIOError("there are too many processes")
        return start(command, *arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", maybe)
    monkeypatch.setattr(model_process, "RESTART_SECONDS", 0.01)
    return left


def test_a_front_that_cannot_be_started_for_a_while_is_started_later(refusing):
    with fake_model(capacity=4) as model, running(model, fronts=2) as server:
        first = fronts()
        refusing.refusals = 2 * model_process.FALSE_STARTS
        psutil.Process(min(first)).kill()
        until(lambda: not refusing.refusals, PATIENCE)
        with server.call("?format=pcm") as caller:
            caller.until(wire.Kind.HANDSHAKE)
            caller.finish()
            caller.rest()
            assert caller.code == 1000, "the other one goes on"
        until(lambda: len(fronts() - {min(first)}) == 2, PATIENCE)
        assert max(first) in fronts()
        assert json.loads(get(server, "/readyz")[2])["sessions"] == 0


def test_the_server_ends_when_no_front_is_left(refusing):
    ended, port = queue.Queue(), queue.Queue()
    with fake_model(capacity=4) as model, start_blocking_portal("asyncio") as portal:
        future = portal.start_task_soon(
            functools.partial(serve, model, None, Listening(port=0, fronts=2), started=port.put)
        )
        future.add_done_callback(ended.put)
        port.get(timeout=PATIENCE)
        refusing.refusals = 1000
        for each in fronts():
            psutil.Process(each).kill()
        with pytest.raises(ServerError, match="do not start"):
            ended.get(timeout=PATIENCE).result()


def test_a_server_does_not_start_whose_fronts_cannot(refusing):
    refusing.refusals = 1000
    with fake_model() as model, pytest.raises(ServerError, match="do not start"), running(model, fronts=2):
        pass


def test_a_front_that_hangs_before_it_has_begun_ends_the_server(monkeypatch, tmp_path):
    hung = tmp_path / "python"
    hung.write_text("#!/bin/sh\nexec sleep 60\n")
    hung.chmod(stat.S_IRWXU)
    monkeypatch.setattr(sys, "executable", str(hung))
    for name, seconds in (("START_SECONDS", 0.2), ("TICK_SECONDS", 0.1), ("RESTART_SECONDS", 0.01)):
        monkeypatch.setattr(model_process, name, seconds)
    with fake_model() as model, pytest.raises(ServerError, match="do not start"), running(model, fronts=2):
        pass


def test_fronts_outlive_a_suspension_of_the_server(monkeypatch):
    for name, seconds in (("SILENT_SECONDS", 4.0), ("TICK_SECONDS", 0.2)):
        monkeypatch.setattr(model_process, name, seconds)
    port = queue.Queue()
    with fake_model(capacity=4) as model, start_blocking_portal("asyncio") as portal:
        run = functools.partial(serve, model, None, Listening(port=0, fronts=2), started=port.put)
        future = portal.start_task_soon(run)
        server, there = Server(port.get(timeout=PATIENCE), None), fronts()
        try:
            with server.call("?format=pcm") as caller:
                caller.until(wire.Kind.HANDSHAKE)
                for each in there:
                    psutil.Process(each).suspend()
                portal.call(time.sleep, 5.0)  # the event loop of the model's process
                time.sleep(0.5)
                for each in there:
                    psutil.Process(each).resume()
                caller.finish()
                caller.rest()
                assert caller.code == 1000
            assert fronts() == there
        finally:
            future.cancel()


@contextlib.contextmanager
def descriptors_left(count):
    """Leave this process so many free descriptors during a block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top, filled = max(int(each.name) for each in Path("/dev/fd").iterdir()), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1 + count, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                filled.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(filled.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in filled:
            os.close(each)


def test_memory_that_cannot_be_mapped_leaves_nothing_open():
    before = psutil.Process().num_fds()
    with descriptors_left(1), pytest.raises(OSError, match="Too many open files"):
        SharedMemory.of(4096)
    assert psutil.Process().num_fds() == before


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("what", ["a process", "a socket", "a plan", "a bell", "time"])
async def test_a_front_that_cannot_be_started_leaves_nothing_open(refusing, monkeypatch, what):
    refusing.refusals = 1
    pair, pairs = socket.socketpair, []

    def maybe():
        pairs.append(0)
        if what == "a socket" and len(pairs) == 2:
            raise OSError("there are too many descriptors")
        return pair()

    def described(_):
        if what == "a plan":
            raise OSError("there is too much of it")
        return SimpleNamespace(to_bytes=lambda: b"plan")

    def no_bell(*_):
        raise OSError("there are too many")

    if what == "a bell":
        monkeypatch.setattr(front_process, "Bell", no_bell)
    with fake_model() as model, socket.socket() as bound:
        crowd = SharedMemory.of(8)
        gc.collect()
        before = psutil.Process().num_fds()
        monkeypatch.setattr(socket, "socketpair", maybe)
        hall = Hall([model], [], lambda: None, lambda: b"")
        if what == "time":  # as where another front ends the server
            with anyio.CancelScope() as scope:
                front = FrontProcess(hall, described, bound, crowd)
                scope.cancel()
                await front.connect()
            assert scope.cancelled_caught
        else:
            with pytest.raises(OSError, match="too"):
                await FrontProcess(hall, described, bound, crowd).connect()
        front = None
        await anyio.sleep(0.05)
        gc.collect()  # the mapped memory has a descriptor of its own
        assert psutil.Process().num_fds() <= before, "those of an earlier test may have been closed, too"
        crowd.close()
