"""A real server on a real port: conversations, the queue, who is let in, and what can go wrong."""

import contextlib
import json
import logging
import socket
import threading
import time

import anyio
import numpy as np
import psutil
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.websockets import WebSocketState
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from duplex import Conversation
from duplex.audio.ogg import OggWriter
from duplex.audio.opus import OpusWriter
from duplex.errors import ServerError, UsageError
from duplex.options import SessionOptions
from duplex.server import Settings, app, call
from duplex.server.call import KEEPALIVE, Call
from duplex.server.call_parameters import Wishes
from duplex.server.service import Service
from duplex.transports import wire
from server_support import FRAME, RATE, Caller, Server, ask, get, running, tone, until

TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's


# Conversations


@pytest.mark.parametrize("audio_format", ["opus", "pcm"])
def test_a_conversation(models, audio_format):
    with running(models()) as server, server.call(f"?format={audio_format}&seed=3&events=full") as caller:
        caller.say(tone(1.0), audio_format=audio_format, pace=0.01)
        caller.finish()
        assert caller.end() == (1000, "")
        assert caller.messages[0] == wire.Message(wire.Kind.HANDSHAKE, bytes(8))
        told = [json.loads(payload) for payload in caller.payloads(wire.Kind.METADATA)]
        assert [told[0]["type"], told[0]["seed"], told[-1]["type"]] == ["SessionStarted", 3, "SessionEnded"]
        words = [event["text"] for event in told if event["type"] == "AgentText"]
        assert words
        assert b"".join(caller.payloads(wire.Kind.TEXT)).decode() == "".join(words)
        heard = caller.sound(audio_format)
        assert len(heard) == told[-1]["usage"]["frames"] * FRAME
        assert np.abs(heard).max() == pytest.approx(0.1, rel=0.3), "the fake answers at half the level"


def test_events_only_for_who_asks(models):
    with running(models()) as server, server.call("?format=pcm") as caller:
        caller.say(tone(0.4), audio_format="pcm")
        caller.finish()
        caller.end()
        assert not caller.payloads(wire.Kind.METADATA)


def test_silence_stands_in_for_a_caller_who_says_nothing(models):
    with running(models()) as server, server.call() as caller:
        for _ in range(5):
            caller.until(wire.Kind.AUDIO)


def test_an_answer_does_not_wait_for_the_caller_s_next_message(models, monkeypatch):
    """With Nagle's algorithm, the second of two small messages waits until the first is acknowledged."""
    found, connection_made = [], WebSocketsSansIOProtocol.connection_made

    def observed(protocol, transport):
        connection_made(protocol, transport)
        connection = transport.get_extra_info("socket")
        found.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(WebSocketsSansIOProtocol, "connection_made", observed)
    with running(models()) as server, server.call() as caller:
        caller.until(wire.Kind.HANDSHAKE)
    assert len(found) == 1
    assert found[0]


def test_conversations_go_on_side_by_side(models):
    with running(models(capacity=4)) as server:
        callers = [server.call("?format=pcm") for _ in range(4)]
        for frame in range(5):
            for level, caller in enumerate(callers, 1):
                caller.say(np.full(FRAME, 0.1 * level, np.float32), audio_format="pcm")
            time.sleep(0.08 if frame else 0)
        for level, caller in enumerate(callers, 1):
            with caller:
                caller.finish()
                assert caller.end() == (1000, "")
                assert np.abs(caller.sound("pcm")).max() == pytest.approx(0.05 * level, abs=1e-3), "its own voice"


# The queue


def position(caller):
    return json.loads(caller.until(wire.Kind.METADATA).payload)


def test_callers_wait_for_a_place_and_are_told_where(models):
    with running(models()) as server, server.call() as first, server.call() as second, server.call() as third:
        first.until(wire.Kind.HANDSHAKE)
        assert position(second) == {"type": "Queued", "position": 1}
        assert position(third) == {"type": "Queued", "position": 2}
        second.say(tone(0.5))  # before the handshake, as the original's clients do
        assert json.loads(get(server, "/readyz")[2]) == {"state": "ready", "sessions": 1, "queue": 2}
        first.websocket.close()
        second.until(wire.Kind.HANDSHAKE)
        assert position(third) == {"type": "Queued", "position": 1}
        third.websocket.close()
        second.until(wire.Kind.AUDIO)


def test_a_full_queue(models):
    with running(models(), Settings(queue=1)) as server, server.call() as first, server.call() as second:
        first.until(wire.Kind.HANDSHAKE)
        position(second)
        status, _, body = get(server, "/readyz")
        assert (status, json.loads(body)["state"]) == (503, "full")
        with server.call() as third:
            code, told = third.end()
            assert code == 1013
            assert "every place is taken" in told


def test_who_waits_too_long_is_sent_away(models):
    with running(models(), Settings(queue_timeout=0.2)) as server, server.call() as first:
        first.until(wire.Kind.HANDSHAKE)
        with server.call() as second:
            code, told = second.end()
            assert (code, told) == (1013, "no place became free in time; call again later")
        assert 'duplex_calls_refused_total{reason="waited"} 1.0' in get(server, "/metrics")[2]


class Line:
    """A websocket of which a test says what happens when something is sent."""

    client = None
    application_state = WebSocketState.CONNECTED

    def __init__(self, on_send):
        self.on_send = on_send

    async def receive(self):
        await anyio.sleep_forever()

    async def send_bytes(self, message):
        await anyio.lowlevel.checkpoint()
        self.on_send(message)

    async def close(self, code, reason):
        pass


def test_a_place_that_becomes_free_while_a_caller_is_told_to_wait(models):
    service, sent = Service(models(), Settings()), []
    first, second = service.admission.arrive("a"), service.admission.arrive("b")

    def on_send(message):
        sent.append(message)
        service.admission.leave(first)
        service.update()

    async def wait():
        with anyio.fail_after(KEEPALIVE / 2):
            assert await Call(service, Line(on_send), Wishes())._wait(second)

    anyio.run(wait)
    assert len(sent) == 1


def test_a_connection_that_the_server_closes_by_itself(models, caplog):
    """As uvicorn does with one that answers no ping: it is a caller who is gone, not a failure."""
    service = Service(models(), Settings())

    def on_send(_):
        raise RuntimeError("Unexpected ASGI message 'websocket.send'")

    async def talk():
        await Call(service, Line(on_send), Wishes()).run()

    anyio.run(talk)
    assert b'duplex_calls_ended_total{reason="hung_up"} 1.0' in service.metrics.text()
    assert "Traceback" not in caplog.text


def test_a_model_that_somebody_else_uses(models, monkeypatch):
    monkeypatch.setattr(call, "SEAT_WAIT", 0.2)
    model = models()
    with running(model, Settings(queue_timeout=0.5)) as server:
        seat = model.engine.open(SessionOptions(), realtime=True, notify=lambda: None)
        with server.call() as caller:
            assert caller.end() == (1013, "no place became free in time; call again later")
        seat.close()
        assert 'duplex_calls_refused_total{reason="waited"} 1.0' in get(server, "/metrics")[2]


def slowly(enter):
    async def entered(conversation):
        await anyio.sleep(0.1)
        return await enter(conversation)

    return entered


def test_who_waited_long_is_not_idle(models, monkeypatch):
    """Before the conversation begins, there is nothing to say."""
    model = models()
    with running(model, Settings(idle_timeout=0.5)) as server, server.call() as first, server.call() as second:
        first.until(wire.Kind.HANDSHAKE)
        position(second)
        for _ in range(10):
            first.say(tone(0.08), pace=0.08)
        monkeypatch.setattr(Conversation, "__aenter__", slowly(Conversation.__aenter__))
        first.websocket.close()
        assert second.until(wire.Kind.HANDSHAKE)


def test_an_address_has_its_limit(models):
    with running(models(capacity=3), Settings(per_address=1)) as server, server.call() as first:
        first.until(wire.Kind.HANDSHAKE)
        with server.call() as second:
            code, told = second.end()
            assert code == 1013
            assert "your address" in told


# Limits


def test_a_conversation_has_its_limit(models):
    with running(models(), Settings(session_limit=0.3)) as server, server.call() as caller:
        code, told = caller.end()
        assert code == 1000
        assert "time limit" in told


def test_a_caller_who_is_gone(models):
    with running(models(), Settings(idle_timeout=0.3)) as server, server.call() as caller:
        code, told = caller.end()
        assert code == 1008
        assert "no audio came" in told


def test_who_waits_is_not_idle(models):
    with running(models(), Settings(idle_timeout=1.5)) as server, server.call() as first, server.call() as second:
        position(second)
        for _ in range(25):
            first.say(tone(0.08), pace=0.08)
        first.websocket.close()
        second.until(wire.Kind.HANDSHAKE)


def test_a_caller_who_sends_faster_than_a_clock(models):
    with running(models()) as server, server.call("?format=pcm") as caller:
        caller.until(wire.Kind.HANDSHAKE)
        caller.say(tone(12.0), audio_format="pcm")
        code, told = caller.end()
        assert code == 1008
        assert "faster than it is spoken" in told


def test_a_caller_in_the_queue_keeps_the_pace_too(models):
    with running(models()) as server, server.call() as first, server.call("?format=pcm") as second:
        first.until(wire.Kind.HANDSHAKE)
        with contextlib.suppress(ConnectionClosed):
            second.say(tone(12.0), audio_format="pcm")
        code, told = second.end()
        assert code == 1008
        assert "faster than it is spoken" in told


@pytest.mark.parametrize("sent", [b"", b"\x03\x01", b"\x04{}"])
def test_messages_without_end(models, sent):
    with running(models()) as server, server.call() as caller:
        caller.until(wire.Kind.HANDSHAKE)
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            for _ in range(40_000):
                caller.websocket.send(sent)
        assert caller.end()[0] == 1008


def test_messages_without_sound_are_no_sign_of_life(models):
    with running(models(), Settings(idle_timeout=0.5)) as server, server.call() as caller:
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            for _ in range(200):
                caller.websocket.send(wire.audio(b"nothing"))
                time.sleep(0.02)
        assert caller.end()[0] == 1008


def test_a_message_with_an_hour_of_sound(models):
    opus, writer = OpusWriter(RATE), OggWriter(0)
    two_of_60_ms = b"\x1b\x02"  # without a byte for either: the decoder makes them up
    writer.page([b"skipped"], 0)
    writer.page([b"skipped"], 0)
    bomb = b"".join(writer.page([two_of_60_ms] * 255, 0) for _ in range(80))
    with running(models()) as server, server.call() as caller:
        caller.websocket.send(wire.audio(opus.header()))
        caller.websocket.send(wire.audio(bomb))
        code, told = caller.end()
        assert code == 1008
        assert "at once" in told


# What callers send


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
        caller.websocket.send(wire.audio(b"abc"))
        code, told = caller.end()
        assert code == 1008
        assert "16 bit" in told


def test_a_message_that_is_too_large(models):
    with running(models()) as server, server.call() as caller:
        with contextlib.suppress(ConnectionClosed):  # it may hear the refusal before all has been sent
            caller.websocket.send(bytes(20_000_000))
        assert caller.end()[0] in (1009, 1006), "the refusal is lost where it meets what is still being sent"


# What fails


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
        assert threading.active_count() <= before[1] + 2, "threads for coding are kept, as many as there are cores"


# Who is let in


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


def test_a_name_that_was_pointed_here(models):
    with running(models(), Settings(hosts=("localhost", "127.0.0.1"))) as server:
        assert get(server, "/", Host="evil.example")[0] == 400
        assert get(server, "/")[0] == 200


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


# Pages


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
        assert float(figures["duplex_step_seconds_count"]) >= 4
        assert float(figures["duplex_frame_latency_seconds_count"]) >= 4
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


def test_it_mounts_into_an_application_of_others(models):
    outer = Starlette(routes=[Mount("/talk", app(models()))])
    server = uvicorn.Server(uvicorn.Config(outer, port=0, ws="websockets-sansio", log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        mounted = Server(server.servers[0].sockets[0].getsockname()[1], None)
        assert "<html" in get(mounted, "/talk/")[2]
        with connect(mounted.url("/talk/api/chat", "ws")) as websocket:
            Caller(websocket).until(wire.Kind.AUDIO)
    finally:
        server.should_exit = True
        thread.join()


def test_http_where_a_websocket_is_meant_and_the_reverse(models):
    with running(models()) as server:
        status, _, text = get(server, "/api/chat")
        assert (status, json.loads(text)) == (426, {"error": "open a websocket here"})
        with pytest.raises(InvalidStatus), connect(server.url("/healthz", "ws")):
            pass
