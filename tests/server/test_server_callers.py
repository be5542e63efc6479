"""What callers may send, what fails, and who is let in."""

import contextlib
import json
import logging
import socket
import threading

import psutil
import pytest
from calls_support import position
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from duplex.errors import ServerError, UsageError
from duplex.server import Settings
from duplex.transports import wire
from server_support import ask, get, running, tone, until

TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's


@pytest.mark.parametrize(
    "sent",
    [b"", b"\x04" + b"[" * 60_000, b"\x07abc", b"\xff", b"\x03\x01", b"\x04not json", b"\x04[1]", b"\x06", b"\x02hi"],
)
def test_messages_that_mean_nothing(models, sent):
    with running(models()) as server, server.call() as caller:
        caller.websocket.send(sent)
        caller.say(tone(0.3))
        caller.finish()
        assert caller.end() == (1000, "")


def test_text_frames(models):
    with running(models()) as server, server.call() as caller:
        caller.websocket.send("hello")
        code, told = caller.end()
        assert code == 1003
        assert "send binary messages" in told


def test_ogg_of_another_codec(models):
    from duplex.audio.ogg import OggWriter  # noqa: PLC0415

    with running(models()) as server, server.call() as caller:
        caller.websocket.send(wire.audio(OggWriter(1).page([b"\x01vorbis" + bytes(30)], 0)))
        code, told = caller.end()
        assert code == 1008
        assert "is not Opus" in told


def test_half_a_sample(models):
    with running(models()) as server, server.call("?format=pcm") as caller:
        caller.until(wire.Kind.HANDSHAKE)  # what comes before is not heard
        caller.websocket.send(wire.audio(b"abc"))
        code, told = caller.end()
        assert code == 1008
        assert "16 bit" in told


def test_a_message_that_is_too_large(models):
    with running(models()) as server, server.call() as caller:
        with contextlib.suppress(ConnectionClosed):  # it may hear the refusal before all has been sent
            caller.websocket.send(bytes(20_000_000))
        assert caller.end()[0] in (1009, 1006), "the refusal is lost where it meets what is still being sent"


def test_a_model_that_fails_ends_its_conversations_and_goes_on(models):
    failing = threading.Event()

    def on_step(_):
        if failing.is_set():
            failing.clear()
            raise ValueError("secret of the model")

    with running(models(on_step=on_step)) as server:
        with server.call() as caller:
            caller.until(wire.Kind.AUDIO)
            failing.set()
            code, told = caller.end()
            assert code == 1011
            assert told == "the conversation failed; call again"
        with server.call() as caller:
            caller.until(wire.Kind.AUDIO)


def test_a_caller_who_vanishes(models):
    model = models()
    with running(model) as server:
        with server.call() as caller:
            caller.until(wire.Kind.AUDIO)
            caller.websocket.socket.close()  # without a word
        until(lambda: model.free == 1)
        with server.call() as caller:
            caller.until(wire.Kind.AUDIO)


def test_a_server_that_stops_says_so(models):
    with running(models()) as server, server.call() as first, server.call() as second:
        first.until(wire.Kind.AUDIO)
        position(second)
        server.cancel()
        for caller in (first, second):
            code, told = caller.end()
            assert code == 1012
            assert "about to restart" in told


def test_nothing_is_left_behind(models):
    model = models(capacity=3)
    with running(model) as server:
        with server.call() as caller:
            caller.until(wire.Kind.AUDIO)
        until(lambda: model.free == 3)
        process = psutil.Process()
        before = process.num_fds(), threading.active_count()
        for _ in range(20):
            with server.call() as caller:
                caller.say(tone(0.1))
                caller.until(wire.Kind.AUDIO)
        until(lambda: model.free == 3)
        until(lambda: process.num_fds() <= before[0])
        until(lambda: threading.active_count() <= before[1] + 2)  # those of the last call end on their own


def refused(server, query="", **headers):
    with pytest.raises(InvalidStatus) as raised:
        server.call(query, additional_headers=headers)
    return raised.value.response.status_code, json.loads(raised.value.response.body)["error"]


def test_a_token_or_a_ticket(models):
    with running(models(), Settings(tokens=(TOKEN,))) as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            status, told = refused(server, **headers)
            assert status == 401
            assert "Bearer" in told
        assert refused(server, f"?token={TOKEN}")[0] == 401, "secrets do not belong into addresses"
        with server.call(additional_headers={"Authorization": f"Bearer {TOKEN}"}) as caller:
            caller.until(wire.Kind.HANDSHAKE)
        assert ask(server, "POST", "/api/ticket")[0] == 401
        answers = [ask(server, "POST", "/api/ticket", Authorization=f"Bearer {TOKEN}")[2] for _ in range(2)]
        tickets = [json.loads(answer)["ticket"] for answer in answers]
        for ticket, word in zip(tickets, ("ticket", "worker_auth_id"), strict=True):
            with server.call(f"?{word}={ticket}") as caller:
                caller.until(wire.Kind.HANDSHAKE)
            assert refused(server, f"?{word}={ticket}")[0] == 401


def test_secrets_in_addresses_stay_out_of_logs(models, caplog):
    caplog.set_level(logging.INFO)
    with running(models(), Settings(tokens=(TOKEN,))) as server:
        ticket = json.loads(ask(server, "POST", "/api/ticket", Authorization=f"Bearer {TOKEN}")[2])["ticket"]
        with server.call(f"?ticket={ticket}") as caller:
            caller.until(wire.Kind.HANDSHAKE)
        assert refused(server, f"?token={TOKEN}")[0] == 401
    assert ticket not in caplog.text
    assert TOKEN not in caplog.text


def test_pages_from_elsewhere(models):
    with running(models(), Settings(origins=("https://friend.example",))) as server:
        status, told = refused(server, Origin="https://evil.example")
        assert status == 403
        assert "--origin" in told
        for origin in ("https://friend.example", server.url()):
            with server.call(origin=origin) as caller:
                caller.until(wire.Kind.HANDSHAKE)


@pytest.mark.parametrize("settings", [None, Settings(tokens=(TOKEN,)), Settings(hosts=("talk.example.org",))])
def test_a_name_that_was_pointed_here(models, settings):
    with running(models(), settings) as server:
        for host in ("evil.example", f"evil.example:{server.port}", "localhost.evil.example", "10.0.0.1"):
            assert get(server, "/", Host=host)[0] == 400
            line = socket.create_connection(("127.0.0.1", server.port))
            with line, pytest.raises(InvalidStatus, match="400"):
                connect(f"ws://{host}/api/chat", sock=line, origin=f"http://{host}").__enter__()
        for host in ("localhost", f"127.0.0.1:{server.port}", "[::1]", *(settings.hosts if settings else ())):
            assert get(server, "/", Host=host)[0] == 200


def test_a_server_for_others_has_any_name_until_it_is_given_one(models):
    everywhere = {"host": "0.0.0.0", "insecure": True}  # noqa: S104
    with running(models(), **everywhere) as server:
        assert get(server, "/", Host="any.example")[0] == 200
    with running(models(), Settings(hosts=("*.example.org",)), **everywhere) as server:
        assert get(server, "/", Host="any.example")[0] == 400
        assert get(server, "/", Host="talk.example.org")[0] == 200
        assert get(server, "/healthz")[0] == 200


@pytest.mark.parametrize("query", ["?seed=x", "?temperature=-1", "?format=mp3"])
def test_wishes_that_make_no_sense(models, query):
    with running(models()) as server:
        assert refused(server, query)[0] == 400


def test_others_need_a_token(models):
    with pytest.raises(UsageError, match="--insecure"), running(models(), host="0.0.0.0"):  # noqa: S104
        pass
    with running(models(), host="0.0.0.0", insecure=True) as server, server.call() as caller:  # noqa: S104
        caller.until(wire.Kind.HANDSHAKE)


def test_an_address_that_is_taken(models):
    with (
        running(models()) as server,
        pytest.raises(ServerError, match="choose another --host or --port"),
        running(models(), port=server.port),
    ):
        pass


def test_health_and_metrics(models):
    with running(models()) as server:
        assert get(server, "/healthz")[::2] == (200, "ok\n")
        with server.call() as caller:
            caller.say(tone(0.3))
            caller.finish()
            caller.end()
        assert json.loads(get(server, "/readyz")[2]) == {"state": "ready", "sessions": 0, "queue": 0}
        status, headers, text = get(server, "/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=")
        figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert figures['duplex_calls_ended_total{reason="finished"}'] == "1.0"
        assert float(figures['duplex_step_seconds_count{model="fake"}']) >= 4
        assert float(figures['duplex_frame_latency_seconds_count{model="fake"}']) >= 4
        assert float(figures['duplex_stage_seconds_count{stage="encode"}']) >= 4


def test_the_page_keeps_to_itself(models):
    with running(models()) as server:
        status, headers, text = get(server, "/")
        assert status == 200
        assert "<html" in text
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in {name.lower() for name in headers}


@pytest.mark.parametrize(
    "path", ["/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "//etc/passwd", "/page/../run.py", "/x"]
)
def test_nothing_else_is_served(models, path):
    with running(models()) as server:
        status, _, text = get(server, path)
        assert status in (400, 404)
        assert "import" not in text


def test_http_where_a_websocket_is_meant_and_the_reverse(models):
    with running(models()) as server:
        status, _, text = get(server, "/api/chat")
        assert (status, json.loads(text)) == (426, {"error": "open a websocket here"})
        with pytest.raises(InvalidStatus), connect(server.url("/healthz", "ws")):
            pass


def own_threads():
    """How many of ours there are; AnyIO's, which looked at the recordings, wait a while for more work."""
    return sum(thread.name.startswith("duplex") for thread in threading.enumerate())


@pytest.mark.parametrize("thread", ["duplex-coding-0", "duplex-coding-1", "duplex-recording-0"])
def test_a_call_that_cannot_begin_gives_its_place_back(models, monkeypatch, tmp_path, thread):
    start, failed = threading.Thread.start, []

    def start_or_fail(self):
        if self.name == thread and not failed:
            failed.append(thread)
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with running(models(), Settings(record=tmp_path)) as server:
        threads = own_threads()
        monkeypatch.setattr(threading.Thread, "start", start_or_fail)
        with server.call() as caller:
            assert caller.end() == (1011, "the conversation failed; call again")
        assert failed
        until(lambda: own_threads() <= threads)  # those of an earlier test may have ended, too
        assert json.loads(get(server, "/readyz")[2]) == {"state": "ready", "sessions": 0, "queue": 0}
        with server.call() as caller:
            caller.say(tone(0.5))
            caller.until(wire.Kind.AUDIO)
