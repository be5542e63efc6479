"""Callers of ``/v1/audio/speech`` who do not read, or want too much: each has an end, and holds nobody up."""

import json
import socket
import threading
import time
from http.client import IncompleteRead

import anyio
import pytest
from test_speech import LONG, TEXT, TOKEN, VOICE, asking, post, speaking  # noqa: F401

from duplex.conversation.speaker import Speaker
from duplex.server import Settings, accept, connections, speech
from duplex.server.service import Service
from duplex.server.speech_sound import Bare
from server_support import get, running, until

SETTINGS = Settings(tokens=(TOKEN,))
MUCH = 1 << 23
"""Bytes that no system keeps of what one does not read."""


@pytest.fixture
def limits(monkeypatch):
    """What counts the connections of a server that begins after this."""
    found, add = [], accept.ConnectionLimit.add

    def noted(limit, abort):
        if limit not in found:
            found.append(limit)
        return add(limit, abort)

    monkeypatch.setattr(accept.ConnectionLimit, "add", noted)
    return found


def unread(server, **asked):
    """Ask for a text, and do not read the answer."""
    body = json.dumps({"voice": VOICE, "input": LONG, "response_format": "pcm", **asked}).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    line = socket.create_connection(("127.0.0.1", server.port))
    line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return line


def ended(server, reason):
    return f'duplex_calls_ended_total{{reason="{reason}"}} 1.0' in get(server, "/metrics")[2]


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_who_does_not_read_is_cut_off_in_the_end(speaking, limits, monkeypatch, stream_format):
    monkeypatch.setattr(speech, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(connections, "CLOSE_SECONDS", 0.5)
    monkeypatch.setattr(Bare, "told", lambda *_: bytes(MUCH))
    with running(speaking, SETTINGS) as server, unread(server, stream_format=stream_format):
        until(lambda: ended(server, "too_slow"))
        until(lambda: len(limits[0]) == 0)
    assert speaking.free == speaking.sessions


def test_who_does_not_read_makes_room_at_once(speaking, limits, monkeypatch):
    """The call is over, so the connection is closed when others need it, though what was sent is on its way."""
    monkeypatch.setattr(speech, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(Bare, "told", lambda *_: bytes(MUCH))
    with running(speaking, SETTINGS) as server, unread(server):
        until(lambda: ended(server, "too_slow"))
        until(lambda: len(limits[0]) == len(limits[0]._without_call) == 1)
        limits[0].bound = 1
        assert get(server, "/healthz")[0] == 200


def test_a_failure_counts_though_nobody_reads_of_it(speaking, limits, monkeypatch):
    told = iter([bytes(MUCH)])
    monkeypatch.setattr(speech, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(connections, "CLOSE_SECONDS", 0.5)
    monkeypatch.setattr(Bare, "told", lambda *_: next(told, None) or 1 / 0)
    with running(speaking, SETTINGS) as server, unread(server, stream_format="sse"):
        until(lambda: ended(server, "failed"))
        until(lambda: len(limits[0]) == 0)
    assert speaking.free == speaking.sessions


def test_where_no_thread_can_be_started_the_place_is_free_again(speaking, monkeypatch):
    """As it is where calls are held; their threads are started with the first."""
    enter = Service.enter

    def refused(*_):
        raise RuntimeError("can't start new thread")

    with running(speaking, Settings(tokens=(TOKEN,), queue=0)) as server:
        monkeypatch.setattr(Service, "enter", refused)
        for _ in range(speaking.sessions):
            assert post(server, {"voice": VOICE, "input": TEXT})[0] == 500
        monkeypatch.setattr(Service, "enter", enter)
        assert post(server, {"voice": VOICE, "input": TEXT})[0] == 200


def slowly(*_):
    time.sleep(0.05)
    return b"\0\0"


def test_texts_keep_to_the_time_limit(speaking, monkeypatch):
    monkeypatch.setattr(Bare, "told", slowly)
    with running(speaking, Settings(tokens=(TOKEN,), session_limit=3.0)) as server, asking(server) as line:
        answer = line.getresponse()
        with pytest.raises(IncompleteRead):
            answer.read()
        assert ended(server, "too_long")
        status, body = post(server, {"voice": VOICE, "input": LONG, "stream_format": "sse"})
        assert status == 200
        last = json.loads(body.decode().strip().split("\n\n")[-1].removeprefix("data: "))
        assert "longer than the server allows" in json.dumps(last)
    assert speaking.free == speaking.sessions


def test_a_text_that_does_not_begin_within_the_limit(speaking, monkeypatch):
    monkeypatch.setattr(Speaker, "__aenter__", lambda _: anyio.sleep_forever())
    with running(speaking, Settings(tokens=(TOKEN,), session_limit=0.2)) as server:
        status, body = post(server, {"voice": VOICE, "input": TEXT})
    assert status == 400
    assert b"longer than the server allows" in body


def test_sound_is_coded_beside_the_event_loop(speaking, monkeypatch):
    threads, told = set(), Bare.told

    def noted(*given):
        threads.add(threading.current_thread().name.rpartition("-")[0])
        return told(*given)

    monkeypatch.setattr(Bare, "told", noted)
    with running(speaking, SETTINGS) as server:
        assert post(server, {"voice": VOICE, "input": TEXT, "response_format": "opus"})[0] == 200
    assert threads == {"duplex-coding"}
