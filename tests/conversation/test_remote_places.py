"""What a client makes of a cluster's answer: up to three places, and none that leaves TLS."""

import json

import pytest

from duplex.conversation.remote_places import Place, Places, elsewhere, with_query
from duplex.errors import ServerError


def answer(count):
    return json.dumps({"places": [{"url": f"http://10.0.0.{n}:1", "ticket": str(n)} for n in range(count)]}).encode()


def test_three_places_are_asked_at_one_after_the_other():
    places = Places(answer(5))
    found = []
    while places:
        found.append(places.next())
    assert found == [Place(f"http://10.0.0.{n}:1", str(n)) for n in range(3)]
    assert not Places()


@pytest.mark.parametrize(
    "said",
    [
        b"moved",
        b"[]",
        b"{}",
        b'{"places": []}',
        b'{"places": {}}',
        b'{"places": [{"url": "http://a"}]}',
        b'{"places": 1}',
    ],
)
def test_an_answer_that_tells_no_place(said):
    with pytest.raises(ServerError, match="give the address of a duplex server"):
        Places(said)


@pytest.mark.parametrize(
    ("here", "there", "found"),
    [
        ("ws://door/api/chat?seed=3", "http://10.0.0.5:41234", "ws://10.0.0.5:41234/api/chat?seed=3"),
        ("ws://door/api/chat", "https://10.0.0.5/talk/", "wss://10.0.0.5/talk/api/chat"),
        ("wss://door/api/chat", "https://10.0.0.5", "wss://10.0.0.5/api/chat"),
        ("wss://door/api/chat", "http://10.0.0.5", None),
        ("ws://door/api/chat", "nowhere", None),
    ],
)
def test_the_same_websocket_elsewhere(here, there, found):
    assert elsewhere(here, there) == found


def test_a_query_is_added_to():
    assert with_query("ws://a/b?x=1&y=2", {"y": "3", "z": "ä"}.items()) == "ws://a/b?x=1&y=3&z=%C3%A4"
