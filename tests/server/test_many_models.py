"""One server, several models: who talks to which, and what is told of them."""

import json

import pytest

import duplex
from duplex.errors import UsageError
from duplex.server import Settings, application
from duplex.server.admission import Admission, Refusal
from duplex.transports import wire
from server_support import get, running, tone

TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's
NOTHING = {"persona": False, "adapters": [], "voices": [], "examples": []}


@pytest.fixture
def two(models):
    first, second = models(capacity=1), models(capacity=2)
    first.name, second.name = "first", "owner/second"
    return [first, second]


def test_callers_choose(two):
    with running(two, Settings(queue=0)) as server:
        with server.call() as default, server.call("?model=owner/second&events=full") as chosen:
            default.until(wire.Kind.HANDSHAKE)
            chosen.until(wire.Kind.HANDSHAKE)
            started = json.loads(chosen.until(wire.Kind.METADATA).payload)
            assert (started["type"], started["model"]) == ("SessionStarted", "owner/second")
            with server.call("?model=first") as third:  # its place is taken, those of the other model are not
                assert third.end()[0] == 1013
            with server.call("?model=owner/second") as fourth:
                fourth.until(wire.Kind.HANDSHAKE)
        text = get(server, "/metrics")[2]
        assert 'duplex_places{model="owner/second"} 2.0' in text
        assert 'duplex_calls_refused_total{reason="full"} 1.0' in text


@pytest.mark.anyio
async def test_from_python(two):
    with running(two) as server:
        async with duplex.connect(server.url("?model=owner/second")) as conversation:
            found = [event async for event in conversation.run(tone(0.3))]
    assert found[0].model == "owner/second"


def test_a_model_that_is_not_served(two):
    with running(two) as server:
        status, _, text = get(
            server,
            "/api/chat?model=nobody",
            Upgrade="websocket",
            Connection="Upgrade",
            **{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"},
        )
    assert status == 400
    assert "first, owner/second" in text


def test_what_is_told(two):
    with running(two) as server:
        described = json.loads(get(server, "/api/info")[2])
        assert described["model"] == "first"
        assert described["models"] == [
            {
                "name": "first",
                "kind": "moshi",
                "sessions": 1,
                "persona": False,
                "synthetic": True,
                "adapters": [],
                "voices": [],
                "examples": [],
            },
            {
                "name": "owner/second",
                "kind": "moshi",
                "sessions": 2,
                "persona": False,
                "synthetic": True,
                "adapters": [],
                "voices": [],
                "examples": [],
            },
        ]
        listed = json.loads(get(server, "/v1/models")[2])
        assert [each["id"] for each in listed["data"]] == ["first", "owner/second"]
        ready = json.loads(get(server, "/readyz")[2])
        assert ready["models"] == {"first": "ready", "owner/second": "ready"}
        two[1].close()
        status, _, text = get(server, "/readyz")
        assert (status, json.loads(text)["state"]) == (503, "closed")
        assert json.loads(text)["models"] == {"first": "ready", "owner/second": "closed"}


def test_the_list_wants_the_token(two):
    with running(two, Settings(tokens=(TOKEN,))) as server:
        assert get(server, "/v1/models")[0] == 401
        assert get(server, "/v1/models", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_the_calls_of_an_address_count_together(two):
    with running(two, Settings(per_address=1)) as server, server.call() as first:
        first.until(wire.Kind.HANDSHAKE)
        with server.call("?model=owner/second") as second:
            code, told = second.end()
            assert code == 1013
            assert "your address" in told


def test_an_address_is_forgotten_with_its_last_call():
    door = Admission(places=2, queue=0, per_address=1)
    caller = door.arrive("192.0.2.1")
    assert door.arrive("192.0.2.1") is Refusal.TOO_MANY
    door.leave(caller)
    assert not door._calls_of
    assert isinstance(door.arrive("192.0.2.1"), int)


def test_names_that_cannot_be_told_apart(models, tmp_path):
    first, second = models(), models()
    first.name, second.name = str(tmp_path / "a" / "mine"), str(tmp_path / "b" / "mine")
    with pytest.raises(UsageError, match="two models are called 'mine'"):
        application([first, second])
    with pytest.raises(UsageError, match="needs a model"):
        application([])
