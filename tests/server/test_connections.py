"""Connections of a server: each has an end in every phase, and what a peer sends is paid for by that peer."""

import contextlib
import socket
import struct
import time
import zlib

import psutil
import pytest

from duplex.server import Settings, accept, connections
from duplex.server.pace import CAPACITY_SECONDS, FRAME_SECONDS, LeakyBucket
from duplex.testing import fake_model
from duplex.transports import wire
from server_support import Process, running, tone, until

UPGRADE = (
    b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
NO_HANDSHAKE = {
    "post": b"POST /api/chat HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 10\r\n\r\n",
    "body": b"GET /api/chat HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 10\r\n\r\n0123456789",
    "chunked": b"GET /api/chat HTTP/1.1\r\n" + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n",
    "long address": b"GET /api/chat?instructions=" + 15_000 * b"a" + b" HTTP/1.1\r\n" + UPGRADE + b"\r\n",
    "version": b"GET /api/chat HTTP/1.1\r\n" + UPGRADE.replace(b"13", b"99") + b"\r\n",
}


@pytest.fixture
def model():
    with fake_model(capacity=2) as made:
        yield made
        assert made.free == made.sessions


def all_that_comes(line):
    told = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := line.recv(1 << 16):
            told += piece
    return told


def comes(line, wanted, count=1):
    """Read until something has come so often."""
    told = b""
    while told.count(wanted) < count:
        piece = line.recv(1 << 16)
        assert piece, f"closed after {told}"
        told += piece


@pytest.mark.parametrize("sent", NO_HANDSHAKE.values(), ids=NO_HANDSHAKE)
def test_an_upgrade_that_is_no_handshake_is_refused_at_once(model, sent):
    with running(model) as server, socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
        line.sendall(sent)
        head, _, body = all_that_comes(line).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 4")
        assert b"websocket" in body.lower(), "it is told what is wrong"


def test_who_asks_again_and_again_on_one_connection_waits_for_a_turn(model, monkeypatch):
    """A connection alone is bounded where it is accepted; without turns its questions would fill the event loop."""
    turns, turn = [], accept.ConnectionLimit.turn
    monkeypatch.setattr(accept.ConnectionLimit, "turn", lambda limit, now: turns.append(now) or turn(limit, now))
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    late = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
    with running(model) as server, socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
        line.sendall(asked)
        comes(line, b"ok\n")
        assert turns == [], "a first question is answered at once"
        line.sendall(asked * 20)
        comes(line, b"ok\n", 20)
        assert len(turns) == 20
        line.sendall(late)
        comes(line, b"\r\n\r\nMethod Not Allowed")
        line.sendall(b"xx" + asked)  # the rest of a question that has been answered, and the next one at once
        comes(line, b"ok\n")
        assert len(turns) == 22


def test_a_server_stops_though_such_requests_are_open():
    with Process() as process:
        lines = [socket.create_connection(("127.0.0.1", process.server.port)) for _ in range(3)]
        for line, sent in zip(lines, NO_HANDSHAKE.values(), strict=False):
            line.sendall(sent)
        status, told = process.stop()
        assert status == 0
        assert "Traceback" not in told
        for line in lines:
            line.close()


def test_a_handshake_that_is_never_accepted_ends(model, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(connections.WebSocketConnection, "run_asgi", lambda _: _never())
    with running(model) as server, socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
        line.sendall(b"GET /api/chat HTTP/1.1\r\n" + UPGRADE + b"\r\n")
        assert all_that_comes(line) == b""


async def _never():
    return None


def flood(kind):
    """Return many websocket frames that have no message in them, or a tiny one."""
    head = {"pong": b"\x8a\x80", "ping": b"\x89\x80", "continuation": b"\x00\x80", "message": b"\x82\x81"}[kind]
    return (head + bytes(4) + (b"\x06" if kind == "message" else b"")) * 100_000


@pytest.mark.parametrize("kind", ["pong", "ping", "continuation", "message"])
def test_who_floods_is_cut_off_and_a_neighbour_hears_on(model, kind):
    with running(model, Settings(idle_timeout=0)) as server, server.call("?format=pcm") as neighbour:
        neighbour.say(tone(0.4), audio_format="pcm")
        before = psutil.Process().num_fds()
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
            line.sendall(b"GET /api/chat?format=pcm HTTP/1.1\r\n" + UPGRADE + b"\r\n")
            line.recv(1 << 12)
            if kind == "continuation":
                line.sendall(b"\x02\x80" + bytes(4))
            with contextlib.suppress(OSError):
                line.sendall(flood(kind) * 20)
            all_that_comes(line)  # to its end: it has been cut off
        until(lambda: model.free == 1 and psutil.Process().num_fds() <= before)
        neighbour.say(tone(0.4), audio_format="pcm")
        neighbour.finish()
        neighbour.rest()
        assert neighbour.code == 1000


def test_a_flood_is_told_why(model):
    with running(model) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(b"GET /api/chat?format=pcm HTTP/1.1\r\n" + UPGRADE + b"\r\n")
        line.recv(1 << 12)
        time.sleep(0.2)
        line.sendall(flood("pong")[: 6 * 3000])
        told = all_that_comes(line)
        assert struct.pack(">H", 1008) + b"more comes" in told


def calling(server):
    """Open a websocket by hand."""
    line = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    line.sendall(b"GET /api/chat?format=pcm HTTP/1.1\r\n" + UPGRADE + b"\r\n")
    told = b""
    while b"\r\n\r\n" not in told:
        told += line.recv(1)
    return line


def read_until(line, wanted):
    """Read until something has come, whatever comes with it."""
    told = b""
    while wanted not in told:
        piece = line.recv(1 << 12)
        assert piece, "closed before"
        told += piece


def test_what_is_compressed_is_refused_unopened(model):
    """Kilobytes may unfold to gigabytes, so no compression is agreed on."""
    packed = zlib.compress(bytes(10_000_000))
    offer = UPGRADE + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    with running(model) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(b"GET /api/chat?format=pcm HTTP/1.1\r\n" + offer)
        told = b""
        while b"\r\n\r\n" not in told:
            told += line.recv(1)
        assert b" 101 " in told
        assert b"deflate" not in told
        line.sendall(b"\xc2\xfe" + struct.pack(">H", len(packed)) + bytes(4) + packed)
        assert struct.pack(">H", 1002) in all_that_comes(line)


PING, PONG = b"\x82\x81" + bytes(4) + b"\x06", b"\x82\x01\x06"
"""A message that is answered with one like it."""


def test_what_comes_after_many_frames_is_heard_in_its_turn(model, monkeypatch):
    monkeypatch.setattr(accept, "TURN_SECONDS", 0.001)
    with running(model) as server, calling(server) as line:
        line.sendall(flood("pong")[: 6 * 1500] + PING)
        read_until(line, PONG)


@pytest.mark.slow
def test_who_sends_many_frames_waits_and_others_do_not(model, monkeypatch):
    monkeypatch.setattr(accept, "TURN_SECONDS", 3600.0)
    with running(model) as server, calling(server) as line, calling(server) as neighbour:
        line.sendall(flood("pong")[: 6 * 1500] + PING)
        neighbour.sendall(PING)
        read_until(neighbour, PONG)
        line.settimeout(0.3)
        told = b""
        with contextlib.suppress(TimeoutError):
            while piece := line.recv(1 << 12):
                told += piece
        assert PONG not in told


def test_bytes_count_also_when_the_call_is_over(model):
    message = b"\x82\xff" + struct.pack(">Q", 60_000) + bytes(4) + b"\xff" + bytes(59_999)
    with (
        running(model, Settings(queue=0)) as server,
        calling(server),
        calling(server),
        calling(server) as refused,
        pytest.raises((BrokenPipeError, ConnectionResetError)),
    ):
        refused.sendall(message * (4 * connections.MAX_DISCARDED_BYTES // len(message)))


@pytest.mark.parametrize("path", ["/nowhere", "/api/chat?temperature=high"])
def test_a_refused_handshake_is_answered_and_nothing_to_log(model, path, caplog):
    with running(model) as server, socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
        line.sendall(f"GET {path} HTTP/1.1\r\n".encode() + UPGRADE + b"\r\n")
        assert all_that_comes(line).startswith(b"HTTP/1.1 4")
    assert [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@pytest.mark.parametrize("text", [b"hello", b"\xff\xfe"], ids=["text", "no UTF-8"])
def test_text_ends_the_call_and_is_nothing_to_log(model, text, caplog):
    with running(model) as server, calling(server) as line:
        line.sendall(b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text)
        read_until(line, struct.pack(">H", 1003))
    assert [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def test_who_speaks_on_while_a_server_ends_hears_the_goodbye(model):
    """As pages do: a connection that is closed with something unread is reset, and what was said last is lost."""
    audio = b"\x82\xfe" + struct.pack(">H", 3841) + bytes(4) + bytes([wire.Kind.AUDIO]) + bytes(3840)
    with running(model) as server, calling(server) as line:
        line.sendall(audio)
        server.cancel()
        told = b""
        while struct.pack(">H", 1012) not in told:
            line.sendall(audio)
            piece = line.recv(1 << 12)
            assert piece, "closed without a reason"
            told += piece
        assert b"about to restart" in told
        for _ in range(5):
            line.sendall(audio)
            time.sleep(0.1)
        line.sendall(b"\x88\x82" + bytes(4) + struct.pack(">H", 1012))
        while line.recv(1 << 12):
            pass


# The bucket


@pytest.mark.parametrize(("pings", "ppm"), [(1e9, 0), (2.0, 0), (2.0, 300), (1.0, 1000)])
def test_an_honest_caller_is_never_too_fast(pings, ppm):
    bucket, now, next_ping = LeakyBucket(0.0), 0.0, pings
    for _ in range(24 * 3600 * 25 // 2):
        now += 0.08 / (1 + ppm * 1e-6)
        assert bucket.pour(0.08, now)
        if next_ping <= now:
            next_ping += pings
            assert bucket.pour(FRAME_SECONDS, now)


@pytest.mark.parametrize("quiet", [0.0, 600.0, 86400.0])
def test_silence_is_no_credit(quiet):
    bucket, poured = LeakyBucket(0.0), 0
    while bucket.pour(FRAME_SECONDS, quiet):
        poured += 1
    assert poured == pytest.approx(CAPACITY_SECONDS / FRAME_SECONDS, abs=2)


def test_what_was_too_much_is_forgotten_in_time():
    bucket = LeakyBucket(0.0)
    assert not bucket.pour(2 * CAPACITY_SECONDS, 0.0)
    assert bucket.pour(0.0, CAPACITY_SECONDS + 1.0)
