"""What a caller is told before a word is spoken, and what the sound itself says: that the voice is synthetic."""

import io
import json

import anyio
import av
import numpy as np
import pytest
from resuming_support import session
from websockets.sync.client import connect

import duplex
from duplex.audio.opus import OpusReader
from duplex.audio.wire_codecs import AudioFormat, create_wire_codec
from duplex.server import Settings
from duplex.transports import wire
from server_support import RATE, get, running, tone, until


def headers_of(server, path):
    with connect(server.url(path, "ws"), compression=None) as websocket:
        return websocket.response.headers


def comments(stream):
    with av.open(io.BytesIO(stream)) as container:
        return {name.lower(): text for name, text in container.streams.audio[0].metadata.items()}


def test_the_sound_that_travels_says_so(models):
    """Whoever keeps the bytes of the websocket keeps the mark, which any player shows."""
    with running(models()) as server, server.call() as caller:
        caller.say(tone(0.4))
        caller.finish()
        caller.rest()
    told = comments(b"".join(caller.payloads(wire.Kind.AUDIO)))
    assert told["encoder"].startswith(f"duplex {duplex.__version__}")
    assert "digitalSourceType=" in told["comment"]
    assert "trainedAlgorithmicMedia" in told["comment"]
    assert caller.sound().size > 0


def test_what_a_caller_sends_bears_no_mark():
    """A person's voice is none."""
    pcm = tone(0.08)
    plain, marked = (create_wire_codec(AudioFormat(), RATE, synthetic=synthetic) for synthetic in (False, True))
    assert "comment" not in comments(plain.header() + plain.encode(pcm))
    stream = marked.header() + marked.encode(pcm)
    assert "trainedAlgorithmicMedia" in comments(stream)["comment"]
    assert np.abs(OpusReader(RATE).feed(stream)).max() > 0.1, "the mark is in nobody's way"


@pytest.mark.parametrize("path", ["/api/chat", "/personaplex/api/chat", "/v1/live/sessions", "/v1/realtime", "/twilio"])
def test_the_answer_that_opens_a_websocket_says_so(models, path):
    with running(models()) as server:
        assert headers_of(server, path)["Duplex-Synthetic"] == "true"


def test_a_model_that_only_listens_has_no_voice(models):
    with running(models(agent_streams=0)) as server:
        assert "Duplex-Synthetic" not in headers_of(server, "/api/chat")
        assert json.loads(get(server, "/api/info")[2])["synthetic"] is False


def test_the_server_says_so_of_each_model(models):
    with running([models(name="talks"), models(name="listens", agent_streams=0)]) as server:
        info = json.loads(get(server, "/api/info")[2])
        told = [headers_of(server, f"/api/chat?model={name}").get("Duplex-Synthetic") for name in ("talks", "listens")]
    assert told == ["true", None]
    assert info["synthetic"] is True
    assert [model["synthetic"] for model in info["models"]] == [True, False]


@pytest.mark.slow
def test_a_call_that_moves_to_a_server_that_records_is_told_so(models, tmp_path):
    """The first server did not record, so its caller has heard of no recording."""
    states, calls = tmp_path / "states", tmp_path / "calls"
    with (
        running(models(), Settings(state_store=states, record=calls)) as other,
        running(models(), Settings(state_store=states, move_to=(other.url(),))) as server,
        server.call("?events=full&format=pcm") as caller,
    ):
        token = session(caller)["resume"]
        until(lambda: any(len(path.name) == 64 for path in states.iterdir()))
        anyio.run(anyio.sleep, 0.1)  # the file is there before its call counts as kept
        with other.call(f"?events=full&format=pcm&resume={token}&received=0&sequence=0") as again:
            told = again.websocket.response.headers
            assert (told["Duplex-Recorded"], told["Duplex-Synthetic"]) == ("true", "true")
            session(again)
            again.finish()
            again.rest()
        caller.rest()
