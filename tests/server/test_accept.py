"""Connections that never speak: they are bounded, make room for callers, and take nothing from running calls."""

import asyncio
import contextlib
import resource
import socket
import time

import pytest
import uvloop

from duplex.server import accept
from duplex.server.accept import Acceptor, ConnectionLimit
from duplex.server.certificate import self_signed_certificate
from duplex.testing import fake_model
from duplex.transports import wire
from server_support import Process, get, insecure_context, running, tone, until

DESCRIPTORS = 160


def limited():
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def test_the_oldest_connection_without_a_call_makes_room():
    limit, closed = ConnectionLimit(3), []

    def add(name):
        return limit.add(lambda: closed.append(name))

    first, second, third = add("first"), add("second"), add("third")
    first.hold()
    fourth = add("fourth")
    assert closed == ["second"]
    assert len(limit) == 3
    second.remove()  # closed in the meantime
    third.remove()
    assert len(limit) == 2
    first.let_go()
    add("fifth")
    add("sixth")
    assert closed == ["second", "fourth"], "who has ended a call is the youngest again"
    fourth.let_go()
    assert len(limit) == 3, "what is gone does not come back"
    limit.close()
    assert closed == ["second", "fourth", "first", "fifth", "sixth"]


def test_calls_are_never_closed_for_others():
    limit, closed = ConnectionLimit(2), []
    for name in "ab":
        limit.add(lambda name=name: closed.append(name)).hold()
    limit.add(lambda: closed.append("new"))
    assert closed == ["new"]


class Told(asyncio.Protocol):
    """A protocol that notes what it is told of its connection."""

    def __init__(self):
        self.told = []

    def connection_made(self, _):
        self.told.append("made")

    def connection_lost(self, _):
        self.told.append("lost")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("turns", range(8))
def test_an_acceptor_that_closes_in_any_turn_of_the_loop_forgets_no_connection(new_loop, turns):
    """A server waits for connections that have been made and not lost: one that is forgotten keeps it from ending."""
    protocols = []

    def handover(_):
        protocols.append(Told())
        return protocols[-1]

    async def end():
        bound = socket.create_server(("127.0.0.1", 0))
        acceptor = Acceptor(bound, ConnectionLimit(8), handover, None)
        with bound, socket.create_connection(bound.getsockname()):
            while not protocols:  # noqa: ASYNC110 -- turns of the loop are what is counted
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            acceptor.close()
            known = [each for each in protocols if each.told]  # which a server closes by itself
            await acceptor.wait_closed()
            await asyncio.sleep(0.05)
        return [each.told for each in protocols if each not in known]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert all(told in ([], ["made", "lost"]) for told in runner.run(end()))


def test_the_bound_is_below_what_the_process_may_open(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (400, 400))
    few, many = accept.descriptor_bound(1), accept.descriptor_bound(60)
    assert 400 > few > many >= accept.MIN_CONNECTIONS
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 30, 1 << 30))
    assert accept.descriptor_bound(1) == accept.MAX_CONNECTIONS
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert accept.descriptor_bound(1) == accept.MAX_CONNECTIONS


@pytest.mark.parametrize(("scheme", "options"), [("ws", ()), ("wss", ("--tls",))], ids=["plain", "tls"])
def test_a_flood_of_silence_keeps_nobody_out_and_ends_no_recording(tmp_path, scheme, options):
    with Process("--record", tmp_path / "r", *options, before=limited, HOME=str(tmp_path)) as served:
        server = served.server

        def call():
            return server.call("?format=pcm", scheme=scheme)

        with contextlib.ExitStack() as silent, call() as running_call:
            running_call.until(wire.Kind.HANDSHAKE)
            for _ in range(3 * DESCRIPTORS):
                silent.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            running_call.say(tone(2.0), audio_format="pcm", pace=0.08)
            running_call.until(wire.Kind.AUDIO)
            with call() as late:
                late.until(wire.Kind.HANDSHAKE)
            running_call.finish()
            assert running_call.end() == (1000, "")
        until(lambda: len(list(tmp_path.glob("r/*/dialogue.wav"))) == 1)
        [recording] = tmp_path.glob("r/*/dialogue.wav")
        until(lambda: recording.stat().st_size > 2.0 * 24000 * 4)
        assert served.stop()[0] == 0


def test_tls_begins_with_whoever_speaks_at_once(tmp_path):
    """The command runs on uvloop where there is one, on which data may come before anybody asks for it."""
    with Process("--tls", HOME=str(tmp_path)) as served:
        for _ in range(20):
            with (
                socket.create_connection(("127.0.0.1", served.server.port), timeout=10) as line,
                insecure_context().wrap_socket(line) as secure,
            ):
                secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert secure.recv(100).startswith(b"HTTP/1.1 200")


def test_a_handshake_that_does_not_come_to_its_end(monkeypatch, tmp_path):
    certificate, key = self_signed_certificate(tmp_path, "127.0.0.1")
    monkeypatch.setattr(accept, "HANDSHAKE_SECONDS", 0.5)
    with (
        fake_model() as model,
        running(model, certificate=certificate, key=key) as server,
    ):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
            line.sendall(b"\x16\x03\x01")  # the first bytes of one
            assert line.recv(100) == b""
        assert time.monotonic() - began > 0.3
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert plain.recv(1 << 16)[:4] != b"HTTP"


def test_silent_connections_are_closed_at_the_end():
    with fake_model() as model, contextlib.ExitStack() as lines:
        with running(model) as server:
            line = lines.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            assert get(server, "/healthz")[0] == 200
        assert line.recv(100) == b""
