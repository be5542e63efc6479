"""A real server on a real port: conversations, the queue, who is let in, and what can go wrong."""

import contextlib
import json
import socket
import time

import anyio
import numpy as np
import pytest
from calls_support import position
from starlette.websockets import WebSocketState
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed

from duplex import Conversation
from duplex.audio.ogg import OggWriter
from duplex.audio.opus import OpusWriter
from duplex.options import SessionOptions
from duplex.server import Settings, call
from duplex.server.call import Call
from duplex.server.line import Line
from duplex.server.queueing import KEEPALIVE, wait_for_place
from duplex.server.service import Service
from duplex.server.wires.base import Opening
from duplex.server.wires.chat import ChatWire
from duplex.transports import wire
from server_support import FRAME, RATE, get, running, tone

ABNORMAL = 1006
"""What a client notes for itself when its line breaks."""


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


class OwnWebSocket:
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


async def own_call(service, on_send):
    chat = ChatWire(Opening(url="/api/chat", query={}, headers={}))
    agreed = await service.models.settle(chat.request)
    return Call(service, Line(OwnWebSocket(on_send), chat, 1 << 16), agreed=agreed)


def test_a_place_that_becomes_free_while_a_caller_is_told_to_wait(models):
    service, sent = Service([models()], Settings()), []
    first, second = service.models.default.admission.arrive("a"), service.models.default.admission.arrive("b")

    def on_send(message):
        sent.append(message)
        service.models.default.admission.leave(first)
        service.update()

    async def wait():
        with anyio.fail_after(KEEPALIVE / 2):
            chat = ChatWire(Opening(url="/api/chat", query={}, headers={}))
            line = Line(OwnWebSocket(on_send), chat, 1 << 16)
            assert await wait_for_place(service, service.models.default.admission, second, line) is None

    anyio.run(wait)
    assert len(sent) == 1


def test_a_connection_that_the_server_closes_by_itself(models, caplog):
    """As uvicorn does with one that answers no ping: it is a caller who is gone, not a failure."""
    service = Service([models()], Settings())

    def on_send(_):
        raise RuntimeError("Unexpected ASGI message 'websocket.send'")

    async def talk():
        await (await own_call(service, on_send)).run()

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


@pytest.mark.slow
def test_who_waits_is_not_idle(models):
    with running(models(), Settings(idle_timeout=1.5)) as server, server.call() as first, server.call() as second:
        position(second)
        for _ in range(25):
            first.say(tone(0.08), pace=0.08)
        first.websocket.close()
        second.until(wire.Kind.HANDSHAKE)


def flooded(server, send):
    """Have callers send too much; return what the first was told who learnt of it before its own sending failed."""
    code, told = ABNORMAL, ""
    for _ in range(3):
        with server.call("?format=pcm") as caller:
            caller.until(wire.Kind.HANDSHAKE)
            with contextlib.suppress(ConnectionClosed):  # or all is on its way before anybody looks at it
                send(caller)
            code, told = caller.end()
        if code != ABNORMAL:
            break
    return code, told


def test_a_caller_who_sends_faster_than_a_clock(models):
    with running(models()) as server:
        code, told = flooded(server, lambda caller: caller.say(tone(60.0), audio_format="pcm"))
    assert code == 1008
    assert "faster than it is spoken" in told


@pytest.mark.slow
def test_a_caller_in_the_queue_keeps_the_pace_too(models):
    with running(models()) as server, server.call() as first, server.call("?format=pcm") as second:
        first.until(wire.Kind.HANDSHAKE)
        with contextlib.suppress(ConnectionClosed):
            second.say(tone(60.0), audio_format="pcm")
        code, told = second.end()
        assert code == 1008
        assert "faster than it is spoken" in told


@pytest.mark.parametrize("sent", [b"", b"\x03\x01", b"\x04{}"])
def test_messages_without_end(models, sent):
    def send(caller):
        for _ in range(400_000):
            caller.websocket.send(sent)

    with running(models()) as server:
        assert flooded(server, send)[0] == 1008


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
