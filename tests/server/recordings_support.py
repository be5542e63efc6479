"""What the tests of recordings share: short calls, and what becomes of them."""

import json

import pytest

from duplex.server.recordings import recordings_in
from duplex.testing import fake_model
from duplex.transports import wire
from server_support import tone, until

ALICE, BOB = "alice:a-token-of-some-length", "bob:another-token-of-some-length"


@pytest.fixture
def model():
    with fake_model(capacity=2) as made:
        yield made


def bearer(token):
    return {"Authorization": f"Bearer {token.partition(':')[2]}"}


def talk(server, token=None, query=""):
    """Hold a short call; return its session's id."""
    headers = bearer(token) if token else {}
    with server.call(f"?format=pcm&events=full{query}", additional_headers=headers) as caller:
        caller.until(wire.Kind.HANDSHAKE)
        caller.say(tone(0.3), audio_format="pcm")
        caller.finish()
        assert caller.end()[0] == 1000
    events = [json.loads(payload) for payload in caller.payloads(wire.Kind.METADATA)]
    return next(event["session_id"] for event in events if event["type"] == "SessionStarted")


def recorded(folder, count):
    until(lambda: len(recordings_in(folder)) == count and all(each.ended for each in recordings_in(folder)))
    return recordings_in(folder)
