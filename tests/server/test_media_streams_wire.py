"""What telephone services say and understand, without a server."""

import base64
import itertools
import json
from collections import deque

import numpy as np
import pytest
from wires_support import mutated

from duplex.audio.wire_codecs import AudioFormat, create_wire_codec
from duplex.options import SessionOptions
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import Audio, Begin, CallDescription, End, Opening, PressKey
from duplex.server.wires.media_streams import (
    CLEAR_SECONDS,
    DIALECTS,
    LATE_SECONDS,
    LEAD_SECONDS,
    MediaStreamWire,
)

SILENT = np.zeros(1920, np.float32)
LOUD = np.full(1920, 0.1, np.float32)
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
SILENCE = {"twilio": b"\xff", "telnyx": b"\xd5", "plivo": b"\xff"}
CLEARS = {"twilio": "clear", "telnyx": "clear", "plivo": "clearAudio"}


def opened(name, **query):
    return MediaStreamWire(DIALECTS[name], Opening(url=f"ws://x/{name}", query=query, headers={}))


def started(name):
    wire = opened(name)
    (begin,) = wire.receive(json.dumps(STARTS[name]))
    options = SessionOptions()
    list(wire.admitted(CallDescription(model="tiny", sample_rate=24000, frame_duration=0.08, options=options)))
    return wire, begin.request


def heard(wire, *payloads, pcm=LOUD):
    return [json.loads(each) for payload in payloads for each in wire.audio(pcm, payload)]


def played(messages):
    """Return the sound of each message that has some."""
    return [base64.b64decode(message["media"]["payload"]) for message in messages if "media" in message]


def test_formats():
    assert started("twilio")[1].heard == started("plivo")[1].said == AudioFormat("mulaw", 8000)
    assert started("telnyx")[1].heard == AudioFormat("alaw", 8000)


def test_what_whoever_set_up_the_call_adds():
    options = started("twilio")[1].options
    assert (options.seed, options.voice) == (7, "anna")
    for added in ({"seed": "8", "voice": "anna"}, [{"name": "seed", "value": "8"}, {"name": "voice", "value": "anna"}]):
        start = STARTS["telnyx"] | {"start": STARTS["telnyx"]["start"] | {"custom_parameters": added}}
        (begin,) = opened("telnyx", seed="3").receive(json.dumps(start))
        assert (begin.request.options.seed, begin.request.options.voice) == (8, "anna")
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
    first, second = bytes(range(160)) * 4, bytes(reversed(range(160))) * 4
    led, told = heard(wire, first, second)
    assert told["event"] == DIALECTS[name].play
    assert played([led, told]) == [SILENCE[name] * round(8000 * LEAD_SECONDS) + first, second]
    assert told.get("streamSid") == ("MZ1" if name == "twilio" else None)
    assert told.get("streamId") == ("p1" if name == "plivo" else None)
    assert ("contentType" in told["media"]) == (name == "plivo")


@pytest.mark.parametrize("name", DIALECTS)
def test_sound_goes_in_whole_pieces_of_20_ms(name):
    """As it comes from a resampler, in lengths of its own: nothing is lost, doubled or moved."""
    wire, _ = started(name)
    sound = np.random.default_rng(0).integers(0, 255, 12_345, np.uint8).tobytes()
    cuts = [0, 490, 979, 1400, 1401, 1401, 3000, 9999, 12_345]
    told = heard(wire, *(sound[start:end] for start, end in itertools.pairwise(cuts)))
    pieces = played(told)
    assert all(len(piece) % 160 == 0 for piece in pieces)
    assert b"".join(pieces) == (SILENCE[name] * 480 + sound)[: (480 + 12_345) // 160 * 160]
    (last,) = played(json.loads(each) for each in wire.goodbye(CloseReason.FINISHED, ""))
    assert last == sound[12_345 - len(sound) % 160 :].ljust(160, SILENCE[name])
    assert list(wire.goodbye(CloseReason.FINISHED, "")) == []


@pytest.mark.parametrize("name", DIALECTS)
def test_speech_is_whole_when_the_silence_after_it_is_left_out(name):
    wire, _ = started(name)
    told = heard(wire, *[bytes(640)] * 10, bytes(641))
    (end,) = heard(wire, SILENCE[name] * 640, pcm=SILENT)
    assert played([end]) == [b"\0".ljust(160, SILENCE[name])]
    assert heard(wire, SILENCE[name] * 640, pcm=SILENT) == []
    (again,) = played(heard(wire, bytes(640)))
    assert again == bytes(640)
    assert len(b"".join(played(told))) % 160 == 0


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_thrown_away_is_not_said_later(name):
    wire, _ = started(name)
    frames = int(CLEAR_SECONDS / 0.08)
    heard(wire, *[bytes(640)] * (frames - 1), bytes(640 + 159))
    told = heard(wire, *[b"\1" * 640] * 2)
    assert [each["event"] for each in told].count(CLEARS[name]) == 1
    assert b"\0" not in b"".join(played(told[[each["event"] for each in told].index(CLEARS[name]) :]))


class Service:
    """Plays what it is sent like a telephone service, 80 ms at a time."""

    def __init__(self, name, wire):
        self.name, self.wire = name, wire
        self.waiting, self.cleared, self.gaps = deque(), 0, 0

    @property
    def held(self):
        return sum(each for each in self.waiting if not isinstance(each, str))

    def hear(self, pcm, payload=bytes(640)):
        for each in map(json.loads, self.wire.audio(pcm, payload)):
            if each["event"] == CLEARS[self.name]:
                self.cleared += 1
                names = [each for each in self.waiting if isinstance(each, str)]
                self.waiting.clear()
                for name in names:
                    self.come_back(name)
            elif each["event"] == MARKS[self.name]:
                self.waiting.append(each.get("name") or each["mark"]["name"])
            else:
                self.waiting.append(len(base64.b64decode(each["media"]["payload"])) / 8000)

    def play(self, seconds=0.08):
        while self.waiting and (isinstance(self.waiting[0], str) or seconds > 1e-9):
            first = self.waiting.popleft()
            if isinstance(first, str):
                self.come_back(first)
                continue
            played = min(first, seconds)
            seconds -= played
            if first - played > 1e-9:
                self.waiting.appendleft(first - played)
        self.gaps += seconds > 1e-9

    def come_back(self, name):
        assert list(self.wire.receive(json.dumps(PLAYED[self.name](name)))) == []


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("behind", [0, 1, 2])
def test_a_service_that_plays_in_time_gets_every_frame(name, behind):
    """Also one that lets some frames come before it begins to play: none is left out, silent or not."""
    service = Service(name, started(name)[0])
    for n in range(200):
        service.hear(SILENT if n % 3 else LOUD)
        if n >= behind:
            service.play()
    assert (service.cleared, service.gaps) == (0, 0)
    assert service.held == pytest.approx(LEAD_SECONDS + 0.08 * behind)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_frame_that_comes_a_little_late_leaves_no_gap(name):
    service = Service(name, started(name)[0])
    service.hear(LOUD)
    service.play(0.08 + LEAD_SECONDS)
    assert service.gaps == 0
    service.play(0.01)
    assert service.gaps == 1


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("late", [0.0, 0.035])
def test_sound_as_it_is_resampled_is_played_without_a_gap_and_at_once(name, late):
    """In a minute of frames, of which every other one comes a little late."""
    service, codec = Service(name, started(name)[0]), create_wire_codec(AudioFormat("mulaw", 8000), 24000)
    held = []
    for n in range(750):
        service.play((0.08 - late, 0.08 + late)[n % 2] if n else 0.0)
        service.hear(LOUD, codec.encode(LOUD))
        held.append(service.held)
    assert (service.cleared, service.gaps) == (0, 0)
    assert max(held) <= LEAD_SECONDS + 0.08 + late


@pytest.mark.parametrize("name", DIALECTS)
def test_after_a_stall_silence_is_left_out_and_no_speech(name):
    service = Service(name, started(name)[0])
    for _ in range(25):  # two seconds at once
        service.hear(LOUD)
    for _ in range(20):
        service.hear(LOUD)
        service.play()
    assert service.held > 2.0
    for _ in range(60):
        service.hear(SILENT)
        service.play()
    assert service.held <= LATE_SECONDS
    assert (service.cleared, service.gaps) == (0, 0)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_service_that_holds_back_too_much_is_cleared(name):
    service = Service(name, started(name)[0])
    frames = int(CLEAR_SECONDS / 0.08)
    for _ in range(frames):
        service.hear(LOUD)
    assert service.cleared == 0
    for _ in range(2):
        service.hear(LOUD)
    assert service.cleared == 1
    for _ in range(frames - 2):
        service.hear(LOUD)
    assert service.cleared == 1


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


@pytest.mark.parametrize("added", ["x", 1, [1, {"name": 2}, {"value": "x"}], [[]], {"seed": 7}, None])
@pytest.mark.parametrize("name", ["twilio", "telnyx"])
def test_parameters_that_are_none_do_not_end_a_call(name, added):
    start = STARTS[name] | {"start": STARTS[name]["start"] | {DIALECTS[name].parameters: added}}
    (begin,) = opened(name).receive(json.dumps(start))
    assert begin.request.options.seed is None


def test_a_stream_without_a_name():
    (end,) = opened("plivo").receive('{"event": "start", "start": {}}')
    assert "no name" in end.text


@pytest.mark.parametrize("name", DIALECTS)
def test_ten_thousand_messages_that_are_nearly_right(name):
    wire, fresh = started(name)[0], opened(name)
    media = {"event": "media", "media": {"track": "inbound", "payload": "AAAA"}}
    samples = [STARTS[name], media, PLAYED[name]("mark-1"), {"event": "dtmf", "dtmf": {"digit": "1"}}]
    for text in mutated(samples, 10_000):
        for each in (wire, fresh):
            assert all(isinstance(action, Audio | Begin | End | PressKey) for action in each.receive(text))
