"""Callers who choose an adapter, by the address, on a server that has several."""

import json
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

import duplex
from cli_support import SMALL, run
from duplex.errors import UsageError
from duplex.transports import wire
from server_support import get, running, tone

ADAPTER = str(Path(__file__).parents[1] / "data" / "family" / "lora")


@pytest.fixture(scope="module")
def server():
    options = {"backend": "torch", "device": "cpu", "sessions": 2, "adapters": {"one": ADAPTER}}
    with duplex.load(SMALL, **options) as model, running(model) as server:
        yield server


def sound_of(server, query):
    with server.call(f"?format=pcm&seed=1&{query}") as caller:
        caller.until(wire.Kind.HANDSHAKE)
        caller.say(tone(0.4), audio_format="pcm")
        caller.finish()
        caller.rest()
        return caller.sound("pcm")


def test_the_address_chooses(server):
    with_it, without = sound_of(server, "adapter=one"), sound_of(server, "")
    least = min(len(with_it), len(without))
    assert least >= 5 * 1920
    assert not np.array_equal(with_it[:least], without[:least])
    assert json.loads(get(server, "/api/info")[2])["models"][0]["adapters"] == ["one"]


def test_one_that_is_not_there(server):
    with pytest.raises(InvalidStatus) as refused:
        server.call("?adapter=two")
    assert refused.value.response.status_code == 400
    assert "no adapter 'two' for its sessions; choose one of one" in refused.value.response.body.decode()


@pytest.mark.anyio
async def test_from_python(server):
    async with duplex.connect(server.url(), options=duplex.SessionOptions(adapter="one")) as conversation:
        events = [event async for event in conversation.run(tone(0.2))]
    assert isinstance(events[-1], duplex.SessionEnded)
    with pytest.raises(UsageError, match="no adapter 'two'"):
        async with duplex.connect(server.url(), options=duplex.SessionOptions(adapter="two")):
            pass


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        (["one", "two"], 2, "give others as --adapter NAME=PATH"),
        (["a=one", "a=two"], 2, "each name stands for one"),
        ([f"mine={ADAPTER}", ADAPTER], 2, "give one"),
        (["mine=/nowhere"], 1, "there is no adapter '/nowhere'"),
    ],
)
def test_the_command(given, status, message):
    options = [part for adapter in given for part in ("--adapter", adapter)]
    ended = run("serve", "--model", SMALL, "--port", "0", "--backend", "torch", *options)
    assert ended.status == status
    assert message in ended.only_error()
