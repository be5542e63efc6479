"""What the published recogniser's clients say and understand, without a server and with one."""

import asyncio
import random

import msgpack
import numpy as np
import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from wires_support import SCRAPS

import duplex
from duplex.audio.opus import OpusWriter
from duplex.audio.wire_codecs import AudioFormat
from duplex.frame_model import Frame
from duplex.server import Settings
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.asr_streaming import AsrStreamingWire
from duplex.server.wires.base import Audio, CallDescription, End, Opening, Reply
from duplex.transcription.words import placement_of, words_of
from recognition_support import FRAME, RATE, recognizer, recognizer_with_heads
from server_support import PATIENCE, running, tone

__all__ = ["recognizer", "recognizer_with_heads"]

TOKEN = "a-token-of-some-length"  # noqa: S105 -- a test's
PATH = "/api/asr-streaming"


def pack(**record):
    return msgpack.packb(record, use_single_float=True)


@pytest.fixture(scope="module")
def model(recognizer_with_heads):
    with duplex.load(str(recognizer_with_heads.folder), backend="torch", device="cpu", sessions=2) as loaded:
        yield loaded


def wire_of(model):
    wire = AsrStreamingWire(Opening(url=f"ws://x{PATH}", query={}, headers={}))
    placement = placement_of(model)
    list(
        wire.admitted(
            CallDescription(
                model="stt",
                sample_rate=RATE,
                frame_duration=FRAME / RATE,
                options=duplex.SessionOptions(),
                recognition=True,
                placement=placement,
                words=lambda: words_of(model, placement),
            )
        )
    )
    return wire


def frames_of(tokens, heads=None):
    silence, none = np.zeros(FRAME, np.float32), np.zeros(0, np.int64)
    for index, token in enumerate(tokens):
        at = index * FRAME / RATE
        yield Frame(at=at, user_pcm=silence, agent_pcm=None, text=token, agent=none, user=none, heads=heads)


def test_sound_is_heard_as_it_was_sent(model):
    wire = wire_of(model)
    assert wire.request.heard == AudioFormat("float32", RATE)
    assert wire.request.held_back
    pcm = np.array([0.5, -1.0, 0.1], np.float32)
    assert list(wire.receive(pack(type="Audio", pcm=pcm.tolist()))) == [Audio(pcm.tobytes())]
    assert list(wire.receive(pack(type="Audio", pcm=[0, 1]))) == [Audio(np.array([0, 1], np.float32).tobytes())]
    assert list(wire.receive(pack(type="Audio", pcm=[]))) == []
    writer = OpusWriter(RATE)
    pages = writer.header() + b"".join(writer.encode(tone(0.08, 0.3)) for _ in range(3))
    (heard,) = wire.receive(pack(type="OggOpus", data=pages))
    assert np.frombuffer(heard.payload, "<f4").size == 3 * FRAME
    (again,) = wire.receive(pack(type="OggOpus", data=[*writer.encode(tone(0.08, 0.3))]))  # as serde writes bytes
    assert np.frombuffer(again.payload, "<f4").size == FRAME


def test_ready(model):
    wire = wire_of(model)
    assert list(wire.receive(pack(type="Init"))) == []
    assert [msgpack.unpackb(each) for each in wire.started(b"")] == [{"type": "Ready"}]
    assert list(wire.receive(pack(type="Init"))) == [Reply(pack(type="Ready"))]
    assert list(wire.receive("text")) == []
    list(wire.receive(pack(type="Audio", pcm=[0.0])))
    (end,) = wire.receive(pack(type="Init"))
    assert "another connection" in end.text
    (last,) = wire.goodbye(end.reason, end.text)
    assert msgpack.unpackb(last) == {"type": "Error", "message": end.text}
    assert list(wire.goodbye(CloseReason.FINISHED, "")) == []


def test_words_steps_and_markers_in_the_published_order(model, recognizer):
    """Words and stops are those of the published server; its steps count from 1; a marker waits for the delay."""
    wire = wire_of(model)
    tokens = [3, *recognizer.tensors["text"].tolist()]  # the first comes with the initial step
    lead, delay = placement_of(model).lead, recognizer.delay
    list(wire.receive(pack(type="Audio", pcm=[0.0] * (2 * FRAME))))
    list(wire.receive(pack(type="Marker", id=-3)))
    heads = np.full((4, 6), 1 / 6, np.float32)
    told = [[msgpack.unpackb(each) for each in wire.stepped(frame)] for frame in frames_of(tokens, heads)]
    assert [each[0]["step_idx"] for each in told] == [*range(1, len(tokens) + 1)]
    assert told[0][0]["prs"] == pytest.approx([1 / 6] * 4)
    waiting = [each[0]["buffered_pcm"] for each in told]
    assert waiting == [max(lead + 2 * FRAME - step * FRAME, 0) for step in range(1, len(tokens) + 1)]
    found = [each for step in told for each in step if each["type"] in ("Word", "EndWord")]
    expected = [each for each in recognizer.facts["server_words"] if "stop" in each or each["word"]]
    assert len(found) >= len(expected) - 1 > 3
    for own, theirs in zip(found, expected, strict=False):
        if own["type"] == "Word":
            assert own["start_time"] == pytest.approx(max(theirs["start"] - recognizer.lead, 0))
        else:
            assert own["stop_time"] == pytest.approx(max(theirs["stop"] - recognizer.lead, 0))
    marked = [index for index, step in enumerate(told, 1) if {"type": "Marker", "id": -3} in step]
    assert marked == [(lead + 2 * FRAME) // FRAME + delay]
    assert told[marked[0] - 1][-1]["type"] == "Marker"


def test_a_model_without_heads_tells_no_steps(model):
    assert [each for frame in frames_of([3] * 5) for each in wire_of(model).stepped(frame)] == []


BAD = [
    b"",
    b"\xc1",
    b"\x93\x01\x02\x03",
    b"\x91" * 5000,
    pack(type="Audio"),
    pack(type="Audio", pcm="x"),
    pack(type="Audio", pcm=[None]),
    pack(type="Audio", pcm=[True]),
    pack(type="Audio", pcm=[[0.0]]),
    pack(type="OggOpus", data="x"),
    pack(type="OggOpus", data=[300]),
    pack(type="OggOpus", data=[[]]),
    pack(type="OggOpus", data=bytes(70000)),
    pack(type="Marker"),
    pack(type="Marker", id="x"),
    pack(type="Marker", id=2**64 - 1),
    pack(type="Word", text="x"),
    pack(pcm=[0.0]),
]


@pytest.mark.parametrize("message", BAD, ids=range(len(BAD)))
def test_what_cannot_be_understood_ends_the_call_and_says_why(model, message):
    (end,) = wire_of(model).receive(message)
    assert isinstance(end, End)
    assert end.reason is CloseReason.BAD_REQUEST
    assert len(end.text) > 20


def test_no_more_markers_than_one_could_wait_for(model):
    wire = wire_of(model)
    ends = [list(wire.receive(pack(type="Marker", id=number))) for number in range(1001)]
    assert ends[:1000] == [[]] * 1000
    assert isinstance(ends[1000][0], End)


def test_ten_thousand_mutated_messages(model):
    chosen = random.Random(0)  # noqa: S311 -- not for secrets
    samples = [
        {"type": "Init"},
        {"type": "Audio", "pcm": [0.25, -1.0, 0, 0.5]},
        {"type": "OggOpus", "data": OpusWriter(RATE).header()},
        {"type": "Marker", "id": 5},
    ]
    wire, heard = wire_of(model), 0
    for number in range(10_000):
        if number % 50 == 0:
            wire = wire_of(model)
        record = dict(chosen.choice(samples))
        for name in [*record]:
            if chosen.random() < 0.15:
                record[name] = chosen.choice([each for each in SCRAPS if each not in (10**19, "\ud800")])
        message = bytearray(msgpack.packb(record))
        for _ in range(chosen.choice((0, 0, 1, 3))):
            at = chosen.randrange(len(message))
            message[at : at + chosen.randint(0, 2)] = chosen.randbytes(chosen.randint(0, 2))
        for action in wire.receive(bytes(message)):
            assert isinstance(action, Audio | End | Reply)
            heard += isinstance(action, Audio)
    assert heard > 500


def client(server, pcm, **options):
    """Do what the published script for files does: everything at once, a marker, and silence until it comes back."""

    async def run():
        told = []
        async with connect_async(server.url(PATH, "ws"), **options) as websocket:

            async def send():
                for at in range(0, len(pcm), FRAME):
                    await websocket.send(pack(type="Audio", pcm=pcm[at : at + FRAME].tolist()))
                await websocket.send(pack(type="Marker", id=7))
                for _ in range(5):
                    await websocket.send(pack(type="Audio", pcm=[0.0] * RATE))

            sending = asyncio.create_task(send())
            async for message in websocket:
                told.append(msgpack.unpackb(message))
                if told[-1]["type"] == "Marker":
                    break
            sending.cancel()
        return told

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_a_file_through_the_server(model, recognizer):
    """Sent faster than it is spoken, all of it is heard, and the words are the published ones."""
    with running(model) as server:
        told = client(server, recognizer.pcm)
    assert told[0] == {"type": "Ready"}
    assert told[-1] == {"type": "Marker", "id": 7}
    steps = [each["step_idx"] for each in told if each["type"] == "Step"]
    assert steps == [*range(1, len(steps) + 1)]
    words = [(each["text"], each["start_time"]) for each in told if each["type"] == "Word"]
    expected = recognizer.words(len(steps))
    assert [start for _, start in words][: len(expected)] == pytest.approx([start for _, start in expected])
    assert len(expected) > 1


def test_a_key_is_wanted(model):
    with running(model, Settings(tokens=(TOKEN,))) as server:
        with pytest.raises(InvalidStatus) as refused, connect(server.url(PATH, "ws")):
            pass
        assert refused.value.response.status_code == 401
        for shown in ({"kyutai-api-key": TOKEN}, {"Authorization": f"Bearer {TOKEN}"}):
            with connect(server.url(PATH, "ws"), additional_headers=shown) as websocket:
                assert msgpack.unpackb(websocket.recv(timeout=PATIENCE)) == {"type": "Ready"}


def test_without_a_recogniser_the_call_is_refused(models):
    with running(models()) as server, pytest.raises(InvalidStatus) as refused, connect(server.url(PATH, "ws")):
        pass
    assert refused.value.response.status_code == 400
    assert b"recognises" in refused.value.response.body


def test_samples_that_are_none_end_the_call(model):
    with running(model) as server, connect(server.url(PATH, "ws")) as websocket:
        assert msgpack.unpackb(websocket.recv(timeout=PATIENCE)) == {"type": "Ready"}
        websocket.send(pack(type="Audio", pcm=[float("nan")] * FRAME))
        told = msgpack.unpackb(websocket.recv(timeout=PATIENCE))
        while told["type"] == "Step":  # of the silence before the audio
            told = msgpack.unpackb(websocket.recv(timeout=PATIENCE))
        assert "NaN" in told["message"]
