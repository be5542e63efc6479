"""A server under attack, in a storm, and killed: what is bounded stays so, and nobody else notices."""

import asyncio
import contextlib
import json
import random
import resource
import signal
import socket
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus

from duplex.audio.ogg import checksum
from duplex.audio.opus import OpusReader, OpusWriter
from duplex.errors import AudioError
from duplex.server import Settings, connections, ending, http_server
from duplex.testing import fake_model
from duplex.transports import wire
from server_support import FRAME, RATE, Process, get, running, tone, until

MUTATED = 10_000
CALLERS = 500


@pytest.fixture
def model():
    with fake_model(capacity=4) as made:
        yield made
        assert made.free == made.sessions


def valid_messages():
    """What well-behaved callers send."""
    writer = OpusWriter(RATE)
    pcm = tone(0.4)
    pages = [writer.header(), *(writer.encode(pcm[start : start + FRAME]) for start in range(0, len(pcm), FRAME))]
    others = [wire.metadata({"type": "Finish"}), wire.ping(), b"\x03\x01", b"\x02hello"]
    return [wire.audio(page) for page in pages] + others


def mutated(message, rng):
    """Return a message with bytes changed, cut or doubled; half of the pages get a checksum that fits again."""
    data = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[place : place + rng.randint(1, 20)]
            case 2:
                data[place:place] = rng.randbytes(rng.randint(1, 20))
            case _:
                data += data[place:]
    data = data or bytearray(1)
    if rng.random() < 0.5 and len(data) > 27 and data[1:5] == b"OggS":
        data[23:27] = bytes(4)
        data[23:27] = checksum(bytes(data[1:])).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.slow
def test_mutated_messages(model):
    rng, messages = random.Random(1), valid_messages()  # noqa: S311 -- of a test

    codes = set()

    async def attack(url):
        sent = 0
        while sent < MUTATED:
            try:
                async with connect_async(url, compression=None, max_size=None) as websocket:
                    await websocket.send(messages[0])
                    while sent < MUTATED:
                        sent += 1
                        await websocket.send(mutated(rng.choice(messages), rng))
            except ConnectionClosed as closed:
                codes.add(closed.rcvd.code if closed.rcvd else "an end without a word")

    with running(model) as server:
        asyncio.run(attack(server.url("/api/chat", "ws")))
        assert codes <= {1000, 1008, 1009}
        until(lambda: model.free == 4)
        assert get(server, "/healthz")[0] == 200
        with server.call() as caller:
            caller.until(wire.Kind.AUDIO)


def test_mutated_pages_straight_into_the_reader():
    rng, messages = random.Random(2), valid_messages()  # noqa: S311 -- of a test
    reader = OpusReader(RATE)
    for _ in range(MUTATED):
        try:
            heard = reader.feed(mutated(rng.choice(messages), rng)[1:])
        except AudioError:
            reader = OpusReader(RATE)
        else:
            assert np.isfinite(heard).all()


def test_a_storm_of_callers(model):
    async def one(url):
        try:
            async with connect_async(url, compression=None, open_timeout=60) as websocket:
                first = wire.parse(await websocket.recv())
                if first.kind is wire.Kind.ERROR:
                    return "refused"
                await websocket.recv()
                return "talked" if first.kind is wire.Kind.HANDSHAKE else "waited"
        except (ConnectionClosed, InvalidStatus, OSError) as error:
            return repr(error)

    async def storm(url):
        return await asyncio.gather(*(one(url) for _ in range(CALLERS)))

    with running(model, Settings(queue=8)) as server:
        process = psutil.Process()
        before = process.num_fds()
        found = asyncio.run(storm(server.url("/api/chat", "ws")))
        assert set(found) <= {"refused", "talked", "waited"}
        assert found.count("talked") >= 4
        until(lambda: model.free == 4 and process.num_fds() <= before + 2)
        with server.call() as caller:
            caller.until(wire.Kind.AUDIO)


def raw_call(server):
    """Open a websocket by hand, on a socket that nobody reads."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that it is full soon
    line.connect(("127.0.0.1", server.port))
    line.sendall(
        b"GET /api/chat?format=pcm HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return line


def test_a_caller_who_does_not_read_or_is_half_gone(model, monkeypatch):
    monkeypatch.setattr(http_server, "PING_SECONDS", 0.3)
    with running(model, Settings(idle_timeout=0)) as server, raw_call(server):
        until(lambda: model.free == 3)
        until(lambda: model.free == 4)


@pytest.mark.slow
def test_who_reads_again_hears_what_is_said_then_and_not_what_was_said_long_ago(model):
    """Six seconds of speech that were not read are not waiting anywhere."""
    with running(model, Settings(idle_timeout=0)) as server, raw_call(server) as line:
        time.sleep(6)
        heard, until = 0, time.monotonic() + 0.5
        while time.monotonic() < until:
            heard += len(line.recv(1 << 16))
    assert 0.5 < heard / (RATE * 2) < 3


def pings(line, count):
    """Send pings, whose answers wait to be read."""
    line.sendall((bytes([0x89, 0x80 + 125]) + bytes(129)) * count)


@pytest.mark.parametrize("ends", ["ping", "limit"])
def test_a_connection_is_cut_off_though_something_waits_to_be_sent_on_it(model, monkeypatch, ends):
    """Only closed, it would stay until that has been read, which is never."""
    monkeypatch.setattr(http_server, "PING_SECONDS", 0.5 if ends == "ping" else 60.0)
    monkeypatch.setattr(ending, "CLOSE_TIMEOUT", 0.1)
    monkeypatch.setattr(connections, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(connections, "MAX_UNREAD_BYTES", 1 << 30)
    monkeypatch.setattr(connections, "FRAME_SECONDS", 0.0)
    settings = Settings(idle_timeout=0, session_limit=0 if ends == "ping" else 3.0)
    with running(model, settings) as server:
        process = psutil.Process()
        before = process.num_fds()
        with raw_call(server) as line:
            until(lambda: model.free == 3)
            with contextlib.suppress(ConnectionError):  # cut off before the last of them
                pings(line, 60_000)
            until(lambda: model.free == 4)
            until(lambda: process.num_fds() <= before + 1)


def test_pings_without_end(model):
    with running(model) as server, raw_call(server) as line:
        with pytest.raises(OSError):  # noqa: PT011 -- whichever way it is cut off
            pings(line, 500_000)
        until(lambda: model.free == 4)


def test_a_request_that_never_ends(model, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
    with running(model) as server:
        for begun in (b"", b"GET / HTTP/1.1\r\n", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
                line.sendall(begun)
                with contextlib.suppress(ConnectionResetError):
                    while line.recv(1000):
                        pass
        with server.call() as caller:
            time.sleep(0.8)
            caller.until(wire.Kind.AUDIO)


def test_headers_that_never_end(model):
    with running(model) as server, socket.create_connection(("127.0.0.1", server.port)) as line:
        line.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError):  # noqa: PT011, PT012 -- whichever way it is cut off
            for _ in range(10_000):
                line.sendall(b"X-Filler: " + b"x" * 1000 + b"\r\n")
                time.sleep(0.0005)
        with server.call() as caller:
            caller.until(wire.Kind.AUDIO)


def test_neighbours_of_a_caller_who_is_killed(model):
    with running(model) as server, server.call("?format=pcm&events=full") as neighbour:
        neighbour.until(wire.Kind.AUDIO)
        for _ in range(10):
            with raw_call(server) as line:
                line.sendall(b"\x82\xfe")  # half of a frame
            neighbour.say(np.full(FRAME, 0.1, np.float32), audio_format="pcm", pace=0.08)
        neighbour.finish()
        assert neighbour.end() == (1000, "")


def test_a_process_that_slept():
    """As a laptop that was closed: the conversation goes on, and tells what was lost."""
    with Process() as served, served.server.call("?format=pcm&events=full") as caller:
        caller.until(wire.Kind.AUDIO)
        served.process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        served.process.send_signal(signal.SIGCONT)
        lag = {}
        while lag.get("type") != "Lag" or lag["dropped"] < 0.5:  # a busy machine may have lost a little before
            lag = json.loads(caller.until(wire.Kind.METADATA).payload)
        assert lag["dropped"] < 10
        caller.until(wire.Kind.AUDIO)


def test_a_port_is_free_again_after_a_kill():
    with Process() as served:
        with served.server.call() as caller:
            caller.until(wire.Kind.AUDIO)
            served.process.kill()
            served.process.wait()
        with Process("--port", served.server.port) as again, again.server.call() as caller:
            caller.until(wire.Kind.AUDIO)


def test_a_disk_that_fills_up(tmp_path):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with Process("--record", tmp_path, before=limited) as served, served.server.call("?format=pcm") as caller:
        for _ in range(30):
            caller.say(np.full(FRAME, 0.25, np.float32), audio_format="pcm", pace=0.08)
        caller.finish()
        assert caller.end()[0] == 1000
        status, said = served.stop()
    assert status == 0
    assert "is incomplete" in said
    (folder,) = Path(tmp_path).iterdir()
    assert 50_000 < (folder / "dialogue.wav").stat().st_size <= 100_000
