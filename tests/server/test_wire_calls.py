"""Calls on all wires: one admission, one guard, and the same conversation on each."""

import base64
import contextlib
import json
import re
import threading
import time

import click.testing
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from wires_support import Heard, JsonCaller, in_base64

import duplex
from duplex.audio.wire_codecs import AudioFormat, create_wire_codec
from duplex.cli.serve import serve
from duplex.errors import UsageError
from duplex.server import Settings
from duplex.server.service import Service
from duplex.server.wires.table import WIRES
from duplex.transports import wire
from server_support import FRAME, RATE, ask, get, running, tone

TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's
OPTIONS = duplex.SessionOptions(seed=5, temperature=0.9)
LIVE = {"type": "session.start", "session": {"model": "fake"}}
TWILIO = {
    "event": "start",
    "streamSid": "MZ1",
    "start": {"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000}, "customParameters": {"seed": "5"}},
}
PIECES = [tone(0.08, level) for level in (0.01, 0.1, 0.3, 0.02, 0.2, 0.4, 0.01, 0.3, 0.1, 0.2, 0.3, 0.02)]
LAST = np.zeros(FRAME, np.float32)
"""A frame is sent before it is recorded: hanging up at once loses the record of this one, not of a piece."""


@pytest.fixture
def recorded(monkeypatch):
    made = []

    def recording(*_):
        made.append(Heard())
        return made[-1]

    monkeypatch.setattr(Service, "recording", recording)
    return made


def live(server, pieces):
    with JsonCaller(server, "/v1/live/sessions") as caller:
        caller.say(**LIVE)
        caller.until("session.started")
        for piece in [*pieces, LAST]:
            caller.say(type="session.input_audio.append", audio=in_base64(piece))
            caller.until("session.output_audio.delta")
        caller.say(type="session.close")
        caller.rest()
        return "".join(each["delta"] for each in caller.messages if each["type"] == "session.output_transcript.delta")


def twilio(server, pieces):
    codec = create_wire_codec(AudioFormat("mulaw", 8000), RATE)
    with JsonCaller(server, "/twilio") as caller:
        caller.say(**TWILIO)
        for piece in [*pieces, LAST]:
            payload = base64.b64encode(codec.encode(piece)).decode()
            caller.say(event="media", media={"track": "inbound", "payload": payload})
            while (message := caller.next())["event"] != "media":
                caller.say(**message)  # a mark, which comes back once what is before it has been played
        caller.say(event="dtmf", dtmf={"digit": "#"})
        for _ in range(3):  # who hangs up hears no more, so the key is told before
            caller.until("media", "event")
        caller.say(event="stop")
        caller.rest()


def chat(server, pieces):
    with server.call("?format=pcm&seed=5") as caller:
        caller.until(wire.Kind.HANDSHAKE)
        for piece in pieces:
            caller.say(piece, audio_format="pcm")
            caller.until(wire.Kind.AUDIO)
        caller.finish()
        caller.rest()
        return b"".join(caller.payloads(wire.Kind.TEXT)).decode()


def realtime(server, pieces):
    with JsonCaller(server, "/v1/realtime") as caller:
        caller.say(type="session.update", session={"instructions": "Be kind."})
        caller.until("session.updated")
        for piece in [*pieces, *[LAST] * 6]:
            caller.say(type="input_audio_buffer.append", audio=in_base64(piece))
            time.sleep(0.08)  # the agent's silence is not sent: nothing else tells that a frame has passed
        caller.until("response.done")  # which silence has ended: all pieces have been heard before


@pytest.mark.anyio
@pytest.mark.parametrize("talk", [chat, live, realtime, twilio])
async def test_each_wire_holds_the_conversation_that_its_sound_makes(models, recorded, tmp_path, talk):
    with running(models(), Settings(idle_timeout=0, record=tmp_path)) as server:
        said = talk(server, PIECES)
    (heard,) = recorded
    started = next(event for event in heard.events if isinstance(event, duplex.SessionStarted))
    options = duplex.SessionOptions(seed=started.seed)
    again = Heard()
    async with duplex.Conversation(models(), options=options, recorder=again) as conversation:
        pcm = np.concatenate([frame.user_pcm for frame in heard.frames])
        told = [event async for event in conversation.run(pcm)]
    frames = again.frames[: len(heard.frames)]
    assert len(heard.frames) >= len(PIECES)
    assert [frame.text for frame in frames] == [frame.text for frame in heard.frames]
    assert [frame.agent.tolist() for frame in frames] == [frame.agent.tolist() for frame in heard.frames]
    if said is not None:
        words = "".join(event.text for event in told if isinstance(event, duplex.AgentText))
        assert said
        assert words.startswith(said)


def test_keys_are_events(models, recorded, tmp_path):
    with running(models(), Settings(idle_timeout=0, record=tmp_path)) as server:
        twilio(server, PIECES[:3])
    assert [event.key for event in recorded[0].events if isinstance(event, duplex.KeyPressed)] == ["#"]


@pytest.mark.anyio
async def test_keys_of_a_remote_conversation(models):
    with running(models()) as server:
        async with duplex.connect(server.url()) as conversation:
            async for event in conversation:
                if isinstance(event, duplex.SessionStarted):
                    await conversation.press_key("7")
                    with pytest.raises(UsageError, match="give one of"):
                        await conversation.press_key("x")
                elif isinstance(event, duplex.KeyPressed):
                    break
            assert event.key == "7"


def test_all_wires_share_the_places(models):
    with running(models(), Settings(queue=1)) as server, server.call() as first:
        first.until(wire.Kind.HANDSHAKE)
        with JsonCaller(server, "/v1/live/sessions") as second, JsonCaller(server, "/twilio") as third:
            second.say(**LIVE)
            assert "number 1 in the queue" in second.until("info")["message"]
            third.say(**TWILIO)
            assert third.rest() == []
            assert third.code == 1013
            first.websocket.close()
            second.until("session.started")


def test_who_says_nothing_has_no_place(models, monkeypatch):
    monkeypatch.setattr("duplex.server.call.BEGIN_TIMEOUT", 0.3)
    with running(models()) as server, JsonCaller(server, "/v1/live/sessions") as silent:
        with server.call() as caller:
            caller.until(wire.Kind.HANDSHAKE)
        silent.rest()
        assert silent.messages[-1]["error"]["code"] == "silent"
        assert silent.code == 1008


@pytest.mark.parametrize("path", ["/v1/live/sessions", "/v1/realtime", "/twilio", "/telnyx", "/plivo"])
def test_a_token_is_wanted_on_every_wire(models, path):
    with running(models(), Settings(tokens=(TOKEN,))) as server:
        with pytest.raises(InvalidStatus) as refused:
            JsonCaller(server, path)
        assert refused.value.response.status_code == 401
        with JsonCaller(server, path, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as caller:
            caller.say(**(LIVE if "live" in path else TWILIO | {"stream_id": "t", "streamId": "p"}))
            assert caller.next()


@pytest.mark.parametrize("path", ["/v1/live/sessions", "/v1/realtime", "/twilio"])
def test_pages_of_others_may_not_call(models, path):
    with running(models()) as server, pytest.raises(InvalidStatus) as refused:
        JsonCaller(server, path, origin="https://elsewhere.example")
    assert refused.value.response.status_code == 403


def test_calls_that_twilio_signs(models):
    import hmac  # noqa: PLC0415

    settings = Settings(tokens=(TOKEN,), twilio_auth_token="sesame")  # noqa: S106
    with running(models(), settings) as server:
        address = server.url("/twilio", "wss").encode()
        for signed, status in ((address, None), (address + b"/", None), (address + b"x", 401)):
            signature = base64.b64encode(hmac.digest(b"sesame", signed, "sha1")).decode()
            headers = {"X-Twilio-Signature": signature}
            if status is None:
                with JsonCaller(server, "/twilio", additional_headers=headers) as caller:
                    caller.say(**TWILIO)
                    caller.until("media", "event")
            else:
                with pytest.raises(InvalidStatus) as refused:
                    JsonCaller(server, "/twilio", additional_headers=headers)
                assert refused.value.response.status_code == status


def test_wires_are_chosen(models):
    with running(models(), Settings(wires=("live",))) as server:
        with pytest.raises(InvalidStatus):
            server.call()
        assert get(server, "/v1/live/sessions")[0] == 426
    with pytest.raises(UsageError, match="choose one or more of chat"):
        Settings(wires=("telegraph",))


def test_who_asks_for_webrtc_is_told_where_the_websocket_is(models):
    with running(models()) as server:
        for path, there in (("/v1/live/sessions", "/v1/live/sessions"), ("/v1/realtime/calls", "/v1/realtime")):
            status, _, text = ask(server, "POST", path)
            assert status == 426
            assert json.loads(text)["error"].endswith(f"open a websocket at {there}")


def test_the_help_names_every_wire():
    told = click.testing.CliRunner().invoke(serve, ["--help"]).output
    assert all(re.search(rf"\b{name}\b", told.partition("--wires")[2]) for name in WIRES)


def test_an_unknown_model_is_told_and_the_default_taken(models):
    with running(models()) as server, JsonCaller(server, "/v1/live/sessions") as caller:
        caller.say(type="session.start", session={"model": "gpt-live-1", "instructions": "Be kind."})
        assert caller.until("session.started")["session"]["model"] == "fake"
        notes = [caller.until("info")["message"] for _ in range(2)]
        assert any("'gpt-live-1'" in note for note in notes)
        assert any("instructions" in note for note in notes)


def test_hostile_messages_disturb_no_neighbour(models):
    """Deep nesting, sound that is none, a message of megabytes, and who vanishes: neighbours hear every frame."""
    hostile = ["[" * 60_000, json.dumps({"type": "session.input_audio.append", "audio": "A" * 50_001}), '{"a":' * 9_000]
    with (
        running(models(capacity=4), Settings(idle_timeout=0)) as server,
        server.call("?format=pcm&events=full") as neighbour,
    ):
        neighbour.until(wire.Kind.HANDSHAKE)

        def attack():
            for _ in range(3):
                with JsonCaller(server, "/v1/live/sessions") as caller:
                    caller.say(**LIVE)
                    caller.until("session.started")
                    for text in hostile:
                        caller.websocket.send(text)
                        caller.until("error")
                    with contextlib.suppress(ConnectionClosed):  # the server may not wait for its end
                        caller.websocket.send("x" * (3 << 20))
                    caller.rest()
                    assert caller.code in (1009, 1006), "the refusal is lost where it meets what is still being sent"
            gone = JsonCaller(server, "/v1/live/sessions")
            gone.say(**LIVE)
            gone.websocket.socket.close()

        attacker = threading.Thread(target=attack)
        attacker.start()
        for _ in range(40):
            neighbour.say(tone(0.08), audio_format="pcm", pace=0.05)
        attacker.join()
        neighbour.finish()
        neighbour.rest()
        usage = json.loads(neighbour.payloads(wire.Kind.METADATA)[-1])["usage"]
        assert usage["frames"] + usage["dropped_seconds"] / 0.08 >= 40 - 1e-6, "what real time has cost is told"
        assert neighbour.code == 1000
