"""Who comes to one front for a call of another: which front is found, and what passes between the two."""

import asyncio
import contextlib
import socket
import threading
from types import SimpleNamespace

import anyio
import anyio.to_thread
import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from duplex.server import Settings, service
from duplex.server.fronts import neighbours
from duplex.server.fronts.neighbours import Neighbours
from server_support import until

pytestmark = pytest.mark.anyio

PACKET = bytes(330)
CALL = "a call"


@pytest.fixture(params=["asyncio"])
def anyio_backend(request):
    return request.param


class Service:
    """What a front knows of its calls, for its neighbours."""

    def __init__(self, *calls):
        self.calls = calls
        self.passing = set()
        self.resumable = SimpleNamespace(knows=lambda _: False)
        self.enter, self.leave = self.passing.add, self.passing.discard

    def find(self, session_id, _):
        return SimpleNamespace(obey=self.end) if session_id in self.calls else None

    async def end(self, _):
        self.calls = ()


class Caller:
    """A websocket as its front has it; ``reads`` lets what is sent go."""

    def __init__(self):
        self.reads = anyio.Event()
        self.heard = []
        self.says = asyncio.Queue()
        self.says.put_nowait({"type": "websocket.connect"})
        self.websocket = WebSocket({"type": "websocket", "path": "/", "headers": []}, self.says.get, self._send)

    async def _send(self, message):
        if message["type"] == "websocket.send":
            await self.reads.wait()
        self.heard.append(message)


@contextlib.asynccontextmanager
async def fronts(folder, *services):
    async with contextlib.AsyncExitStack() as stack:
        made = [Neighbours(folder, number, service) for number, service in enumerate(services, 1)]
        for each in made:
            await stack.enter_async_context(each.listening())
        yield made


@contextlib.contextmanager
def hung(folder, number):
    """Give the socket of a front that accepts nobody."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / f"front-{number}"))
        listening.listen()
        listening.settimeout(10)
        yield listening


def served_by(monkeypatch, application):
    monkeypatch.setattr(neighbours, "attend", lambda _, websocket, __: application(websocket))


async def test_a_passed_websocket_is_as_slow_as_its_caller(tmp_path, monkeypatch):
    sent, last = [], 400

    async def speak(websocket):
        await websocket.accept()
        for number in range(last):
            await websocket.send_bytes(PACKET)
            sent.append(number)
        await websocket.close()

    served_by(monkeypatch, speak)
    caller = Caller()
    with anyio.fail_after(20):
        async with fronts(tmp_path, Service(CALL), Service()) as (_, other), anyio.create_task_group() as tasks:
            tasks.start_soon(other.pass_on, "call", CALL, "", caller.websocket)
            await anyio.sleep(0.5)
            assert sent == [], "what the caller has not taken is not sent yet"
            caller.reads.set()
    assert len(sent) == last
    assert [message["type"] for message in caller.heard[:1] + caller.heard[-1:]] == [
        "websocket.accept",
        "websocket.close",
    ]
    assert len(caller.heard) == last + 2


async def test_what_a_caller_says_waits_for_the_call(tmp_path, monkeypatch):
    heard, listens, gone = [], anyio.Event(), anyio.Event()

    async def listen(websocket):
        await websocket.accept()
        await listens.wait()
        try:
            while True:
                heard.append(await websocket.receive_bytes())
        except WebSocketDisconnect as end:
            heard.append(end.code)
            gone.set()

    served_by(monkeypatch, listen)
    caller, said = Caller(), [b"%d" % number for number in range(50)]
    for each in said:
        caller.says.put_nowait({"type": "websocket.receive", "bytes": each})
    caller.says.put_nowait({"type": "websocket.disconnect", "code": 1000})
    with anyio.fail_after(20):
        async with fronts(tmp_path, Service(CALL), Service()) as (_, other), anyio.create_task_group() as tasks:
            tasks.start_soon(other.pass_on, "call", CALL, "", caller.websocket)
            await anyio.sleep(0.2)
            assert caller.says.qsize() >= len(said) - 2
            listens.set()
            await gone.wait()
    assert heard == [*said, 1000]


async def test_a_call_is_left_when_the_front_of_its_caller_stops(tmp_path, monkeypatch):
    there, left = anyio.Event(), anyio.Event()

    async def stay(websocket):
        await websocket.accept()
        there.set()
        with contextlib.suppress(WebSocketDisconnect):
            await websocket.receive_bytes()
        left.set()

    served_by(monkeypatch, stay)
    caller, asking = Caller(), Service()
    with anyio.fail_after(20):
        async with fronts(tmp_path, Service(CALL), asking) as (_, other), anyio.create_task_group() as tasks:
            tasks.start_soon(other.pass_on, "call", CALL, "", caller.websocket)
            await there.wait()
            (passing,) = asking.passing
            passing.shut_down()
            await left.wait()
    assert not asking.passing


async def test_where_no_thread_can_be_started_none_is_left(tmp_path, monkeypatch, models):
    """Those of a front's first call are started with it, of several kinds: the first have started then."""
    asking, start = service.Service([models()], Settings()), threading.Thread.start

    def start_or_fail(thread):
        if thread.name.startswith("duplex-recording"):
            raise RuntimeError("can't start new thread")
        start(thread)

    def coders():
        return {thread for thread in threading.enumerate() if thread.name.startswith("duplex-coding")}

    async def stay(websocket):
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await websocket.accept()
            await websocket.receive_bytes()

    served_by(monkeypatch, stay)
    before = coders()
    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    with anyio.fail_after(20):
        async with fronts(tmp_path, Service(CALL), asking) as (_, other):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await other.pass_on("call", CALL, "", Caller().websocket)
            await anyio.to_thread.run_sync(until, lambda: not coders() - before)


async def test_a_front_that_hangs_keeps_nobody_waiting(tmp_path, monkeypatch):
    async def greet(websocket):
        await websocket.accept()
        await websocket.close()

    served_by(monkeypatch, greet)
    caller = Caller()
    with anyio.fail_after(20):
        async with fronts(tmp_path, Service(CALL), Service()) as (_, asking):
            with hung(tmp_path, 0) as listening, hung(tmp_path, 3):
                assert await asking.pass_on("call", CALL, "", caller.websocket)
                assert [message["type"] for message in caller.heard] == ["websocket.accept", "websocket.close"]
                assert await asking.hang_up(CALL, "")
                monkeypatch.setattr(neighbours, "ANSWER_SECONDS", 0.2)
                assert not await asking.hang_up(CALL, "")
                with listening.accept()[0] as asked:
                    asked.settimeout(10)
                    while asked.recv(1 << 16):  # to the end: nobody waits for its answer any more
                        pass


async def test_a_call_that_takes_long_to_end_is_found_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "ANSWER_SECONDS", 0.2)
    ending, ended = anyio.Event(), anyio.Event()

    class Slow(Service):
        async def end(self, _):
            await ending.wait()
            ended.set()

    with anyio.fail_after(20):
        async with fronts(tmp_path, Slow(CALL), Service()) as (_, asking):
            assert await asking.hang_up(CALL, "")
            await anyio.sleep(0.5)
            ending.set()
            await ended.wait()


async def test_who_asks_and_says_no_more_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "ANSWER_SECONDS", 0.2)
    with anyio.fail_after(20):
        async with fronts(tmp_path, Service()):
            stream = await anyio.connect_unix(tmp_path / "front-1")
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            await stream.aclose()
