"""Texts over ``/v1/audio/speech``: as OpenAI's own client asks for them, and as clients do who mean no good."""

import base64
import contextlib
import io
import json
import wave
from http.client import HTTPConnection, IncompleteRead

import anyio
import numpy as np
import pytest
from openai import APIStatusError, AuthenticationError, BadRequestError, OpenAI

import duplex
from duplex.audio.opus import OpusReader
from duplex.audio.pcm import to_int16
from duplex.errors import UsageError
from duplex.server import Settings, application
from duplex.server.speech_request import LONGEST_TEXT, SpeechRequest
from duplex.server.wires.json_messages import BadMessage
from duplex.testing import fake_model
from imitation_support import FAMILY, RATE, write_checkpoint
from server_support import ask, get, running, until

TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's
TEXT = "I am here today."
LONG = "Well, I am here today, and so are you. " * 60
VOICE = "first"


@pytest.fixture(scope="module")
def speaking(tmp_path_factory):
    folder = write_checkpoint(tmp_path_factory.mktemp("speech") / "talker", "tts")
    with duplex.load(str(folder), backend="torch", device="cpu", dtype="float32", sessions=2) as model:
        yield model


@pytest.fixture(scope="module")
def server(speaking):
    with fake_model() as dialogue, running([dialogue, speaking], Settings(tokens=(TOKEN,), queue=1)) as server:
        yield server


@pytest.fixture
def client(server):
    with OpenAI(api_key=TOKEN, base_url=server.url("/v1"), max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def said(speaking):
    """What a speaker of this process says of the text: int16 samples, and words."""

    async def say():
        async with duplex.Speaker(speaking, voice=VOICE) as speaker:
            return [event async for event in speaker.say(TEXT)]

    events = anyio.run(say)
    sound = np.concatenate([event.pcm for event in events if isinstance(event, duplex.AgentAudio)])
    return to_int16(sound), [event.text for event in events if isinstance(event, duplex.AgentText)]


def post(server, body, path="/v1/audio/speech", **headers):
    """Return status and body of an answer."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, {"Authorization": f"Bearer {TOKEN}", **headers})
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        connection.close()


def test_samples_are_those_of_a_speaker(client, said):
    answer = client.audio.speech.create(model="talker", voice=VOICE, input=TEXT, response_format="pcm")
    assert answer.response.headers["content-type"] == "audio/pcm"
    assert np.array_equal(np.frombuffer(answer.content, "<i2"), said[0])


def test_wav_is_what_comes_unasked(client, said):
    """A header without a length, which says that the speech is synthetic."""
    with client.audio.speech.with_streaming_response.create(model="tts-1", voice=VOICE, input=TEXT) as answer:
        pieces = list(answer.iter_bytes(1024))
    data = b"".join(pieces)
    assert b"Synthetic speech" in data[:400]
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        assert np.array_equal(np.frombuffer(file.readframes(1 << 30), "<i2"), said[0])


def test_opus(client, said):
    answer = client.audio.speech.create(model="talker", voice=VOICE, input=TEXT, response_format="opus")
    heard = OpusReader(RATE).feed(answer.content)
    assert len(heard) == len(said[0])
    assert answer.content.count(b"OggS") == len(said[0]) // 1920 + 2


def test_events_have_the_words(server, said):
    status, body = post(
        server,
        {"model": "talker", "voice": VOICE, "input": TEXT, "response_format": "pcm", "stream_format": "sse"},
    )
    events = [json.loads(line.removeprefix("data: ")) for line in body.decode().split("\n\n") if line]
    assert status == 200
    sound = b"".join(base64.b64decode(each["audio"]) for each in events if each["type"] == "speech.audio.delta")
    assert np.array_equal(np.frombuffer(sound, "<i2"), said[0])
    words = [each for each in events if each["type"] == "speech.word"]
    assert [each["text"] for each in words] == said[1]
    assert [each["start"] for each in words] == sorted(each["start"] for each in words)
    assert events[-1]["type"] == "speech.audio.done"
    assert events[-1]["usage"]["output_tokens"] == len(said[0]) // 1920


def test_options_are_those_of_a_session(client):
    asked = {"model": "talker", "voice": VOICE, "input": TEXT, "response_format": "pcm"}
    heard = [
        client.audio.speech.create(**asked, extra_body=more).content for more in ({}, {"seed": 5}, {"codebooks": 1})
    ]
    assert len(set(heard)) == 3


def test_who_may(server):
    stranger = OpenAI(api_key="another-token-of-that", base_url=server.url("/v1"), max_retries=0)
    with stranger, pytest.raises(AuthenticationError):
        stranger.audio.speech.create(model="talker", voice=VOICE, input=TEXT)
    assert post(server, {"input": TEXT}, Origin="https://elsewhere.example")[0] == 403


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"model": "nobody"}, "there is no model 'nobody' here"),
        ({"model": "fake"}, "says no texts; this server has talker"),
        ({"voice": "third"}, "there is no voice 'third'; choose among first"),
        ({"voice": "../first"}, "there is no voice"),
        ({"input": " \n"}, "there is nothing to say"),
        ({"input": "a" * (LONGEST_TEXT + 1)}, "4097 characters; send at most 4096"),
        ({"input": "漢字"}, "the model has no pieces for any word of the text"),
        ({"response_format": "mp3"}, "response_format is 'mp3'; ask for wav or pcm or opus"),
        ({"speed": 1.5}, "padding_bonus"),
        ({"instructions": "Whisper."}, "take no instructions"),
        ({"extra_body": {"codebooks": 99}}, "codebooks is 99"),
        ({"extra_body": {"seed": "x"}}, "seed is 'x'; send a whole number"),
    ],
)
def test_refused(client, asked, told):
    with pytest.raises(BadRequestError) as refused:
        client.audio.speech.create(**{"model": "talker", "voice": VOICE, "input": TEXT, **asked})
    assert told in refused.value.body["message"]
    assert refused.value.body["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"input": 3}', b'{"input": "x", "seed": 1e999}', b"\xff" * 70_000]
)
def test_what_is_no_request(server, body):
    status, answer = post(server, body)
    assert status == 400
    assert json.loads(answer)["error"]["message"]


def test_a_file_elsewhere_is_no_voice(server):
    """That a caller could name it would tell what lies on the server."""
    path = next((FAMILY / "tts" / "voices").iterdir())
    assert path.is_file()
    status, answer = post(server, {"input": TEXT, "voice": str(path)})
    assert status == 400
    assert b"there is no voice" in answer


def test_a_ticket_stands_in_for_a_token_once(server):
    """As a cluster redirects with one, since clients show their token to nobody else."""
    ticket = json.loads(ask(server, "POST", "/api/ticket", Authorization=f"Bearer {TOKEN}")[2])["ticket"]
    body = {"input": "I am here.", "voice": VOICE}
    for status in (200, 401):
        assert post(server, body, f"/v1/audio/speech?ticket={ticket}", Authorization="")[0] == status


def test_places_are_those_of_the_model(server, client, speaking):
    """Two say something, one waits, one is sent away; who hangs up gives the place back."""
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(asking(server)) for _ in range(3)]
        until(lambda: waiting_and_talking(server) == 3)
        with pytest.raises(APIStatusError) as refused:
            client.audio.speech.create(model="talker", voice=VOICE, input=TEXT)
        assert (refused.value.status_code, refused.value.response.headers["retry-after"]) == (503, "5")
        answers = [line.getresponse() for line in lines[:2]]
        assert all(len(answer.read(4000)) == 4000 for answer in answers)  # while it goes on
    until(lambda: waiting_and_talking(server) == 0)
    until(lambda: speaking.free == 2)
    assert 'duplex_calls_refused_total{reason="full"} 1.0' in get(server, "/metrics")[2]


@contextlib.contextmanager
def asking(server):
    """Ask for a long text, and hang up at the end of the block."""
    line = HTTPConnection("127.0.0.1", server.port, timeout=20)
    body = json.dumps({"voice": VOICE, "input": LONG, "response_format": "pcm"})
    line.request("POST", "/v1/audio/speech", body, {"Authorization": f"Bearer {TOKEN}"})
    with contextlib.closing(line):
        yield line


def waiting_and_talking(server):
    told = json.loads(get(server, "/readyz")[2])
    return told["sessions"] + told["queue"]


def test_what_is_told_of_it(server, speaking):
    told = json.loads(get(server, "/api/info")[2])
    assert [each["name"] for each in told["models"]] == ["fake"]
    assert told["speech"] == [{"name": "talker", "voices": list(speaking.voices.names)}]
    listed = json.loads(get(server, "/v1/models", Authorization=f"Bearer {TOKEN}")[2])
    assert [each["id"] for each in listed["data"]] == ["fake", "talker"]


def test_a_server_that_stops_ends_it(speaking):
    """What is being said breaks off, who waits is told to come back, and nobody has a place any more."""
    with contextlib.ExitStack() as stack:
        with running(speaking, Settings(tokens=(TOKEN,)), drain=0.1) as server:
            lines = [stack.enter_context(asking(server)) for _ in range(3)]
            until(lambda: waiting_and_talking(server) == 3)
            begun = [line.getresponse() for line in lines[:2]]
            assert all(len(answer.read(4000)) == 4000 for answer in begun)
        for answer in begun:
            with pytest.raises(IncompleteRead):
                answer.read()
        assert lines[2].getresponse().status == 503
    until(lambda: speaking.free == 2)


def test_wires_choose_it(speaking):
    paths = [
        {getattr(route, "path", "") for route in application(speaking, Settings(wires=wires)).routes}
        for wires in (("speech",), ("chat",))
    ]
    assert "/v1/audio/speech" in paths[0]
    assert "/v1/audio/speech" not in paths[1]
    assert "/api/chat" not in paths[0]


@pytest.mark.anyio
async def test_nobody_can_call_it(speaking):
    with (
        running(speaking) as server,
        pytest.raises(UsageError, match="says texts and hears nothing; POST what it shall say to /v1/audio/speech"),
    ):
        async with duplex.connect(server.url()):
            pass


def test_names_of_openai():
    asked = SpeechRequest.read(b'{"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "x", "speed": 1.0}')
    assert (asked.model, asked.voice, asked.sound, asked.events) == (None, None, "wav", False)
    with pytest.raises(BadMessage, match="stream_format"):
        SpeechRequest.read(b'{"input": "x", "stream_format": "none"}')
