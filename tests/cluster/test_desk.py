"""What a cluster's door answers to clients of single servers: itself, by a redirection, or by saying where to ask."""

import contextlib
import io
import json
import wave

import pytest
from fleet_support import fleet
from openai import AuthenticationError, InternalServerError, NotFoundError, OpenAI
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import duplex
from duplex.transports import wire
from imitation_support import write_checkpoint
from server_support import ask, get, until

ALICE = "a-token-of-alice"
TOKENS = {"tokens": (f"alice:{ALICE}",)}
BEARER = {"Authorization": f"Bearer {ALICE}"}


@pytest.fixture
def client_of():
    """Makes clients, and closes them."""
    with contextlib.ExitStack() as made:
        yield lambda door, key=ALICE: made.enter_context(OpenAI(api_key=key, base_url=door.url("/v1"), max_retries=0))


@pytest.fixture(scope="module")
def speaking(tmp_path_factory):
    folder = write_checkpoint(tmp_path_factory.mktemp("speech") / "talker", "tts")
    with duplex.load(str(folder), backend="torch", device="cpu", dtype="float32", sessions=2) as model:
        yield model


def test_models_are_listed_for_who_shows_a_token(models, client_of):
    with fleet([models(name="first"), models(name="second")], **TOKENS) as (cluster, door):
        assert [each.id for each in client_of(door).models.list()] == ["first", "second"]
        with pytest.raises(AuthenticationError):
            client_of(door, "sk-wrong").models.list()
        cluster.registry.reports = list
        until(lambda: get(door, "/readyz")[0] == 503)
        with pytest.raises(InternalServerError, match="no replica is there"):
            client_of(door).models.list()


def test_places_are_those_of_all_replicas(models):
    with fleet(*([models(name="first"), models(name="second", capacity=3)] for _ in range(2))) as (_, door):
        info = json.loads(get(door, "/api/info")[2])
        assert (info["sessions"], info["replicas"], info["placed"]) == (8, 2, True)
        assert {each["name"]: each["sessions"] for each in info["models"]} == {"first": 2, "second": 6}


def test_a_ticket_of_the_door_opens_a_call_once(models):
    with fleet(models(), **TOKENS) as (_, door):
        assert ask(door, "POST", "/api/ticket")[0] == 401
        status, headers, text = ask(door, "POST", "/api/ticket", **BEARER)
        assert (status, headers["cache-control"]) == (200, "no-store")
        address = door.url(f"/api/chat?format=pcm&ticket={json.loads(text)['ticket']}", "ws")
        with connect(address, compression=None) as caller:
            assert caller.recv(timeout=10)[0] == wire.Kind.HANDSHAKE
        with pytest.raises(InvalidStatus) as refused, connect(address):
            pass
        assert refused.value.response.status_code == 401


def test_a_client_secret_of_the_door_opens_a_call_once(models, client_of):
    with fleet(models(), **TOKENS) as (_, door):
        with pytest.raises(AuthenticationError):
            client_of(door, "sk-wrong").realtime.client_secrets.create()
        made = client_of(door).realtime.client_secrets.create()
        assert made.session.model == "fake"
        shown = {"additional_headers": {"Authorization": f"Bearer {made.value}"}}
        with connect(door.url("/v1/realtime", "ws"), **shown) as caller:
            assert json.loads(caller.recv(timeout=10))["type"] == "session.created"
        with pytest.raises(InvalidStatus) as refused, connect(door.url("/v1/realtime", "ws"), **shown):
            pass
        assert refused.value.response.status_code == 401


def test_a_text_is_said_by_a_replica(models, speaking, client_of):
    with fleet([models(), speaking], **TOKENS) as (cluster, door):
        answer = client_of(door).audio.speech.create(model="tts-1", voice="first", input="I am here.")
        with wave.open(io.BytesIO(answer.content)) as sound:
            assert sound.getnframes() > 0
        with pytest.raises(AuthenticationError):
            client_of(door, "sk-wrong").audio.speech.create(model="tts-1", voice="first", input="I am here.")
        status, headers, _ = ask(door, "POST", "/v1/audio/speech", **BEARER)
        (replica,) = cluster.replicas
        assert (status, headers["location"].partition("?")[0]) == (307, f"{replica.server.url}/v1/audio/speech")
        assert [each.id for each in client_of(door).models.list()] == ["fake", "talker"]


def test_no_text_is_said_where_no_model_does(models, client_of):
    expected = pytest.raises(NotFoundError, match="no model of these replicas says texts")
    with fleet(models(), **TOKENS) as (_, door), expected:
        client_of(door).audio.speech.create(model="tts-1", voice="first", input="I am here.")


def test_who_asks_for_what_one_replica_has_is_sent_there(models, tmp_path):
    with fleet(models(), **TOKENS, record=tmp_path / "calls") as (cluster, door):
        assert get(door, "/api/recordings")[0] == 401
        status, _, text = get(door, "/api/recordings", **BEARER)
        assert status == 404
        assert "on its own machine" in text
        (there,) = json.loads(text)["replicas"]
        assert there == f"{cluster.replicas[0].server.url}/api/recordings"
        assert json.loads(get(cluster.replicas[0].client, "/api/recordings", **BEARER)[2]) == {"recordings": []}
        assert ask(door, "DELETE", "/api/recordings/any", **BEARER)[0] == 404
        status, _, text = ask(door, "POST", "/v1/live/sessions/any/hangup", **BEARER)
        assert status == 404
        assert "ask there" in text
        for path in ("/v1/live/sessions/any/attach", "/elsewhere"):
            with pytest.raises(InvalidStatus) as refused, connect(door.url(path, "ws")):
                pass
            assert refused.value.response.status_code == 404
