"""Calls on ``/v1/realtime``: OpenAI's own clients, keys, and callers who mean no good."""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
import wave
from pathlib import Path

import numpy as np
import pytest
from openai import AuthenticationError, OpenAI
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from realtime_support import MESSAGES, OF_A_RESPONSE, UPDATE, kinds
from websockets.exceptions import ConnectionClosed, InvalidStatus
from wires_support import JsonCaller, in_base64, mutated

import duplex
from duplex.server import Settings
from duplex.server.certificate import self_signed_certificate
from duplex.transports import wire
from server_support import FRAME, ask, running, tone, until

TESTS = Path(__file__).parents[1]
QUESTION = TESTS.parent / "examples" / "question.wav"
SCRIPTS = TESTS / "conformance"
TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's
PATH = "/v1/realtime"
JAVASCRIPT = pytest.mark.skipif(
    shutil.which("node") is None or not (SCRIPTS / "node_modules").is_dir(),
    reason="needs node, and `npm install` in tests/conformance",
)


OPENAI = pytest.mark.filterwarnings(
    "ignore:connect.. must be used:DeprecationWarning"
)  # as the package uses websockets


def client_of(server, key=TOKEN):
    return OpenAI(api_key=key, base_url=server.url("/v1"), max_retries=0)


def speak(send, pcm):
    """Send sound at the pace of a clock."""
    began = time.monotonic()
    for number, start in enumerate(range(0, len(pcm), FRAME)):
        send(in_base64(pcm[start : start + FRAME]))
        time.sleep(max(0.0, began + (number + 1) * 0.08 - time.monotonic()))


def question():
    with wave.open(str(QUESTION)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    return np.concatenate([pcm, np.zeros(5 * 24000, np.float32)])


def asked(server, pcm):
    """Ask by the ``openai`` package; return the events until the answer is over, as it and as the wire have them."""
    typed, raw = [], []
    with client_of(server) as client, client.realtime.connect(model="gpt-realtime") as line:
        line.session.update(session=UPDATE["session"] | {"audio": {"output": {"voice": "marin"}}})
        typed.append(line.recv())  # the first one takes long: the package makes its types
        speaker = threading.Thread(
            target=speak, args=(lambda audio: line.input_audio_buffer.append(audio=audio), pcm), daemon=True
        )
        speaker.start()
        while typed[-1].type != "response.done":
            raw.append(line.recv_bytes())
            typed.append(line.parse_event(raw[-1]))
        speaker.join()
    return typed, [json.loads(message) for message in raw]


def words(events):
    return "".join(event.delta for event in events if event.type == "response.output_audio_transcript.delta")


@OPENAI
def test_the_openai_package_asks(models):
    with running(models(), Settings(tokens=(TOKEN,))) as server, client_of(server) as client:
        models_of_openai = [model.id for model in client.models.list()]
        typed, raw = asked(server, np.concatenate([tone(1.2), np.zeros(24000, np.float32)]))
    assert models_of_openai == ["fake"]
    assert all(type(event).__module__.startswith("openai.types.realtime") for event in typed)
    for message in raw:
        TypeAdapter(RealtimeServerEvent).validate_python(message)
    response = [
        each["type"] for each in raw if each["type"] in OF_A_RESPONSE and each.get("item", {}).get("role") != "user"
    ]
    assert response == OF_A_RESPONSE
    assert words(typed)
    assert typed[-1].response.output[0].content[0].transcript == words(typed).strip()


@OPENAI
@pytest.mark.slow
def test_the_openai_package_hears_the_right_words():
    with duplex.load("tiny") as model, running(model, Settings(tokens=(TOKEN,))) as server:
        typed, _ = asked(server, question())
    assert "Paris" in words(typed)


@pytest.mark.slow
@JAVASCRIPT
@pytest.mark.parametrize("client", ["openai", "agents", "live"])
def test_clients_in_javascript(models, tmp_path, client):
    certificate, key = self_signed_certificate(tmp_path, "localhost")
    with running(models(), Settings(tokens=(TOKEN,)), certificate=certificate, key=key) as server:
        url = f"https://localhost:{server.port}/v1"
        ran = subprocess.run(
            [shutil.which("node"), str(SCRIPTS / "openai.mjs"), client, url, TOKEN, "4"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": str(certificate)},
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["words"]
    assert told["kinds"]["session.closed" if client == "live" else "response.done"] == 1


def test_keys_of_openais_clients(models):
    with running(models(), Settings(tokens=(f"alice:{TOKEN}",))) as server, client_of(server) as client:
        with client_of(server, "sk-wrong") as stranger, pytest.raises(AuthenticationError):
            stranger.realtime.client_secrets.create()
        made = client.realtime.client_secrets.create(session={"type": "realtime"})
        secret = made.value
        assert made.session.model == "fake"
        assert time.time() < made.expires_at <= time.time() + 60
        page = {"subprotocols": ["realtime", f"openai-insecure-api-key.{secret}", "openai-beta.realtime-v1"]}
        with JsonCaller(server, PATH, **page) as caller:
            assert caller.websocket.subprotocol == "realtime"
            assert caller.next()["type"] == "session.created"
        for refused in (page, {"additional_headers": {"Authorization": f"Bearer {secret}"}}, {}):
            with pytest.raises(InvalidStatus) as told:
                JsonCaller(server, PATH, **refused)
            assert told.value.response.status_code == 401
        for shown in (TOKEN, client.realtime.client_secrets.create().value):
            with JsonCaller(server, PATH, additional_headers={"Authorization": f"Bearer {shown}"}) as caller:
                assert caller.next()["type"] == "session.created"


def test_pages_ask_for_client_secrets(models):
    origin = "https://app.example.org"
    asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    with running(models(), Settings(origins=(origin,))) as server:
        wanted = asks | {"Access-Control-Request-Headers": "authorization,content-type"}
        status, headers, _ = ask(server, "OPTIONS", f"{PATH}/client_secrets", **wanted)
        assert (status, headers["access-control-allow-origin"]) == (200, origin)
        status, headers, body = ask(server, "POST", f"{PATH}/client_secrets", Origin=origin)
        assert (status, headers["cache-control"]) == (200, "no-store")
        assert json.loads(body)["value"].startswith("ek_")
        assert ask(server, "OPTIONS", f"{PATH}/client_secrets", **(wanted | {"Origin": "https://other.org"}))[0] == 400


def test_a_model_that_is_chosen(models):
    with running(models()) as server, JsonCaller(server, f"{PATH}?model=fake") as caller:
        assert caller.next()["session"]["model"] == "fake"
        caller.say(**UPDATE)
        session = caller.until("session.updated")["session"]
        assert session["model"] == "fake"
        assert session["instructions"] == ""
        assert any("takes no instructions" in text for text in session["left_out"])
        caller.say(type="nonsense", event_id="mine")
        assert caller.until("error")["error"]["event_id"] == "mine"


def test_a_response_is_cancelled(models):
    with running(models(), Settings(idle_timeout=0)) as server, JsonCaller(server, PATH) as caller:
        heard = threading.Event()

        def speak():
            while not heard.wait(0.08):
                caller.say(type="input_audio_buffer.append", audio=in_base64(tone(0.08)))

        speaker = threading.Thread(target=speak)
        speaker.start()
        caller.until("response.created")
        heard.set()
        speaker.join()
        caller.say(type="response.cancel")
        done = caller.until("response.done")["response"]
        assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        before = len(caller.messages)
        caller.say(type="conversation.item.retrieve", item_id=done["output"][0]["id"])
        assert caller.until("conversation.item.retrieved")["item"]["status"] == "incomplete"
        assert "response.output_audio.delta" not in kinds(caller.messages[before:], without=())


def test_who_talks_by_a_button_may_be_silent_between(models):
    with running(models(), Settings(idle_timeout=0.3)) as server, JsonCaller(server, PATH) as caller:
        caller.say(**UPDATE)
        caller.until("session.updated")
        time.sleep(1.2)
        caller.say(type="nonsense", event_id="mine")
        assert caller.until("error")["error"]["event_id"] == "mine"


def test_hostile_messages_disturb_no_neighbour(models):
    """Mutated messages, binary ones, sound faster than it is spoken, and who vanishes: neighbours hear every frame."""
    with (
        running(models(capacity=4), Settings(idle_timeout=0)) as server,
        server.call("?format=pcm&events=full") as neighbour,
    ):
        neighbour.until(wire.Kind.HANDSHAKE)
        asked_after = []

        def attack():
            with JsonCaller(server, PATH) as caller:
                for text in mutated(MESSAGES, 400, seed=1):
                    caller.websocket.send(text.encode("utf-8", "replace").decode())
                caller.websocket.send(b"\0\1\2")
                caller.websocket.send("[" * 60_000)
                caller.say(type="nonsense", event_id="the last")
                while caller.until("error")["error"]["event_id"] != "the last":
                    pass
                asked_after.append(len(caller.messages))
                with contextlib.suppress(ConnectionClosed):  # the server may not wait for its end
                    caller.websocket.send("x" * (3 << 20))
                caller.rest()
                assert caller.code in (1009, 1006), "the refusal is lost where it meets what is still being sent"
            with JsonCaller(server, PATH) as flood:
                flood.say(**UPDATE | {"session": {"instructions": "x"}})
                flood.until("session.updated")
                for _ in range(3):
                    flood.say(type="input_audio_buffer.append", audio=in_base64(tone(6.0)))
                flood.until("error")
                flood.rest()
                assert flood.messages[-1]["error"]["code"] == "bad_audio"
                assert flood.code == 1008
            gone = JsonCaller(server, PATH)
            gone.say(**UPDATE)
            gone.websocket.socket.close()
            asked_after.append("all")

        attacker = threading.Thread(target=attack)
        attacker.start()
        for _ in range(50):
            neighbour.say(tone(0.08), audio_format="pcm", pace=0.06)
        attacker.join()
        neighbour.finish()
        neighbour.rest()
        assert asked_after[-1:] == ["all"]
        usage = json.loads(neighbour.payloads(wire.Kind.METADATA)[-1])["usage"]
        assert usage["frames"] + usage["dropped_seconds"] / 0.08 >= 50 - 1e-6, "what real time has cost is told"
        assert neighbour.code == 1000
        until(lambda: ask(server, "GET", "/readyz")[2].find('"sessions":0') >= 0)
