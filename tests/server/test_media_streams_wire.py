"""What telephone services say and understand, without a server."""

import base64
import json

import numpy as np
import pytest
from wires_support import mutated

from duplex.audio.wire_codecs import AudioFormat
from duplex.options import SessionOptions
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import Audio, Begin, CallDescription, End, Opening, PressKey
from duplex.server.wires.media_streams import DIALECTS, MARKS_HELD, MediaStreamWire

SILENT = np.zeros(1920, np.float32)
STARTS = {
    "twilio": {
        "event": "start",
        "streamSid": "MZ1",
        "start": {
            "streamSid": "MZ1",
            "callSid": "CA1",
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"seed": "7", "voice": "anna"},
        },
    },
    "telnyx": {
        "event": "start",
        "stream_id": "t1",
        "start": {"call_control_id": "c", "media_format": {"encoding": "PCMA", "sample_rate": 8000, "channels": 1}},
    },
    "plivo": {
        "event": "start",
        "start": {"callId": "c", "streamId": "p1", "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000}},
    },
}
PLAYED = {
    "twilio": lambda name: {"event": "mark", "streamSid": "MZ1", "mark": {"name": name}},
    "telnyx": lambda name: {"event": "mark", "stream_id": "t1", "mark": {"name": name}},
    "plivo": lambda name: {"event": "playedStream", "streamId": "p1", "name": name},
}
MARKS = {"twilio": "mark", "telnyx": "mark", "plivo": "checkpoint"}
CLEARS = {"twilio": "clear", "telnyx": "clear", "plivo": "clearAudio"}


def opened(name, **query):
    return MediaStreamWire(DIALECTS[name], Opening(url=f"ws://x/{name}", query=query, headers={}))


def started(name):
    wire = opened(name)
    (begin,) = wire.receive(json.dumps(STARTS[name]))
    options = SessionOptions()
    list(wire.admitted(CallDescription(model="tiny", sample_rate=24000, frame_duration=0.08, options=options)))
    return wire, begin.request


def heard(wire, frames):
    return [json.loads(each) for _ in range(frames) for each in wire.audio(SILENT, b"\1\2")]


def marks(name, told):
    return [each.get("name") or each["mark"]["name"] for each in told if each["event"] == MARKS[name]]


def test_formats():
    assert started("twilio")[1].heard == started("plivo")[1].said == AudioFormat("mulaw", 8000)
    assert started("telnyx")[1].heard == AudioFormat("alaw", 8000)


def test_what_whoever_set_up_the_call_adds():
    options = started("twilio")[1].options
    assert (options.seed, options.voice) == (7, "anna")
    (begin,) = opened("telnyx", seed="3", model="m").receive(json.dumps(STARTS["telnyx"]))
    assert (begin.request.options.seed, begin.request.model) == (3, "m")


@pytest.mark.parametrize("name", DIALECTS)
def test_sound_both_ways(name):
    wire, _ = started(name)
    payload = base64.b64encode(bytes(160)).decode()
    inbound = {"event": "media", "media": {"track": "inbound", "payload": payload}}
    assert list(wire.receive(json.dumps(inbound))) == [Audio(bytes(160))]
    outbound = {"event": "media", "media": {"track": "outbound", "payload": payload}}
    assert list(wire.receive(json.dumps(outbound))) == []
    (told,) = heard(wire, 1)
    assert told["event"] == DIALECTS[name].play
    assert base64.b64decode(told["media"]["payload"]) == b"\1\2"
    assert told.get("streamSid") == ("MZ1" if name == "twilio" else None)
    assert told.get("streamId") == ("p1" if name == "plivo" else None)
    assert ("contentType" in told["media"]) == (name == "plivo")


@pytest.mark.parametrize("name", DIALECTS)
def test_a_service_that_plays_in_time_is_not_cleared(name):
    wire, _ = started(name)
    for _ in range(10):
        told = heard(wire, 13)
        assert CLEARS[name] not in [each["event"] for each in told]
        (mark,) = marks(name, told)
        assert list(wire.receive(json.dumps(PLAYED[name](mark)))) == []


@pytest.mark.parametrize("name", DIALECTS)
def test_a_service_that_holds_back_too_much_is_cleared(name):
    wire, _ = started(name)
    told = heard(wire, 13 * (MARKS_HELD + 1))
    assert CLEARS[name] not in [each["event"] for each in told]
    assert CLEARS[name] == heard(wire, 1)[0]["event"]
    assert CLEARS[name] not in [each["event"] for each in heard(wire, 13 * MARKS_HELD)]


def test_keys_and_the_end():
    wire, _ = started("twilio")
    assert list(wire.receive('{"event": "dtmf", "dtmf": {"digit": "5"}}')) == [PressKey("5")]
    assert list(wire.receive('{"event": "stop", "stop": {}}')) == [End(CloseReason.FINISHED)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mediaFormat": {"encoding": "audio/opus"}}, "G.711"),
        ({"customParameters": {"seed": "x"}}, "seed"),
    ],
)
def test_what_cannot_be_spoken(change, told):
    start = STARTS["twilio"] | {"start": STARTS["twilio"]["start"] | change}
    (end,) = opened("twilio").receive(json.dumps(start))
    assert end.reason is CloseReason.BAD_REQUEST
    assert told in end.text


def test_a_stream_without_a_name():
    (end,) = opened("plivo").receive('{"event": "start", "start": {}}')
    assert "no name" in end.text


@pytest.mark.parametrize("name", DIALECTS)
def test_ten_thousand_messages_that_are_nearly_right(name):
    wire, fresh = started(name)[0], opened(name)
    media = {"event": "media", "media": {"track": "inbound", "payload": "AAAA"}}
    samples = [STARTS[name], media, PLAYED[name]("second-1"), {"event": "dtmf", "dtmf": {"digit": "1"}}]
    for text in mutated(samples, 10_000):
        for each in (wire, fresh):
            assert all(isinstance(action, Audio | Begin | End | PressKey) for action in each.receive(text))
