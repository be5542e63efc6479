"""What ``/v1/live/sessions`` says and understands, without a server."""

import base64
import json

import numpy as np
import pytest
from wires_support import mutated

from duplex.audio.wire_codecs import AudioFormat
from duplex.errors import DuplexError
from duplex.events import AgentText, Lag, SessionStarted, UserText
from duplex.options import SessionOptions
from duplex.server.close_reasons import CloseReason
from duplex.server.wires.base import Audio, Begin, CallDescription, End, MuteUser, Opening, Reply
from duplex.server.wires.live import LiveWire

START = {
    "type": "session.start",
    "event_id": "mine",
    "session": {
        "model": "gpt-live-1",
        "instructions": "Be kind.",
        "audio": {"format": {"type": "audio/pcm", "rate": 16000}, "output": {"voice": {"id": "anna"}}},
        "delegation": {"type": "client"},
        "input": [],
    },
}
COMMANDS = [
    START,
    {"type": "session.input_audio.append", "audio": "AAAA"},
    {"type": "session.input_audio.mute", "event_id": "m"},
    {"type": "session.input_audio.unmute"},
    {"type": "session.commentary.append", "content": "x", "delegation_id": None},
    {"type": "session.update", "session": {"triggers": []}},
]
SILENT = np.zeros(1920, np.float32)


def opened():
    return LiveWire(Opening(url="ws://x/v1/live/sessions", query={}, headers={}))


def started(**changes):
    """Return a wire whose session has started, and what its caller was told."""
    wire = opened()
    (begin,) = wire.receive(json.dumps(START | changes))
    description = CallDescription(
        model="tiny", sample_rate=24000, frame_duration=0.08, options=SessionOptions(), left_out=("no persona here",)
    )
    event = SessionStarted(
        sequence=0, at=0.0, session_id="s1", model="tiny", seed=1, sample_rate=24000, frame_duration=0.08
    )
    assert isinstance(begin, Begin)
    return wire, [*wire.admitted(description), *wire.tell(event)]


def replies(wire, message):
    return [json.loads(action.message) for action in wire.receive(json.dumps(message)) if isinstance(action, Reply)]


def test_what_is_asked_for():
    (begin,) = opened().receive(json.dumps(START))
    request = begin.request
    assert (request.model, request.options.instructions, request.options.voice) == ("gpt-live-1", "Be kind.", "anna")
    assert request.heard == request.said == AudioFormat("pcm", 16000)
    assert request.lenient


@pytest.mark.parametrize(
    ("audio_format", "wanted"),
    [
        ({}, AudioFormat("pcm", 24000)),
        ({"type": "audio/pcm", "rate": 24000}, AudioFormat("pcm", 24000)),
        ({"type": "audio/pcmu", "rate": 8000}, AudioFormat("mulaw", 8000)),
        ({"type": "audio/pcma"}, AudioFormat("alaw", 8000)),
    ],
)
def test_formats(audio_format, wanted):
    (begin,) = opened().receive(
        json.dumps({"type": "session.start", "session": {"model": "m", "audio": {"format": audio_format}}})
    )
    assert begin.request.heard == wanted


def test_the_start_is_told_with_what_was_left_out():
    _, told = started()
    session, note = map(json.loads, told)
    assert session["type"] == "session.started"
    assert session["client_event_id"] == "mine"
    assert session["session"]["status"] == "active"
    assert session["session"]["audio"]["output"] == {"voice": "default"}
    assert (note["type"], note["message"]) == ("info", "no persona here")


def test_words_and_their_times():
    wire, _ = started()
    events = [
        AgentText(sequence=1, at=0.4, text=" hello", token=7),
        UserText(sequence=2, at=0.1, text="hi", start=0.1, end=0.35),
        Lag(sequence=3, at=1.0, behind=0.5, dropped=0.4, side="user"),
    ]
    agent, user, lag = [json.loads(each) for event in events for each in wire.tell(event)]
    assert (agent["type"], agent["delta"], agent["start_ms"], agent["end_ms"]) == (
        "session.output_transcript.delta",
        " hello",
        400,
        480,
    )
    assert (user["type"], user["delta"], user["start_ms"], user["end_ms"]) == (
        "session.input_transcript.delta",
        " hi",
        100,
        350,
    )
    assert (lag["type"], lag["code"]) == ("info", "lag")


def test_audio_and_usage():
    wire, _ = started()
    told = [json.loads(each) for _ in range(70) for each in wire.audio(SILENT, b"\1\2")]
    assert base64.b64decode(told[0]["delta"]) == b"\1\2"
    used = [each["usage"]["seconds"] for each in told if each["type"] == "session.usage.updated"]
    assert used == [5.04]


def test_muting():
    """That the model hears silence then is up to the call: tests/server/test_sideband.py."""
    wire, _ = started(session={"model": "m", "audio": {"format": {"type": "audio/pcmu"}}})
    append = {"type": "session.input_audio.append", "audio": base64.b64encode(b"\1\2\3").decode()}
    for kind, muted in (("mute", True), ("unmute", False)):
        assert list(wire.receive(json.dumps(append))) == [Audio(b"\1\2\3")]
        mute, reply = wire.receive(json.dumps({"type": f"session.input_audio.{kind}", "event_id": "m"}))
        told = json.loads(reply.message)
        assert mute == MuteUser(muted)
        assert (told["type"], told["client_event_id"]) == (f"session.input_audio.{kind}d", "m")


@pytest.mark.parametrize("kind", ["instructions", "thinking", "commentary"])
def test_text_that_no_model_hears(kind):
    wire, _ = started()
    (told,) = replies(wire, {"type": f"session.{kind}.append", "content": "x", "event_id": "c"})
    assert (told["type"], told["error"]["code"], told["error"]["client_event_id"]) == ("error", "not_supported", "c")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        (b"\0\0", "invalid_json"),
        ("[]", "invalid_json"),
        ('{"type": "session.start", "session": {}}', "missing_parameter"),
        ('{"type": "session.start", "session": {"model": 3}}', "invalid_value"),
        (
            '{"type": "session.start", "session": {"model": "m", "audio": {"format": {"type": "audio/mp3"}}}}',
            "invalid_value",
        ),
        (
            '{"type": "session.start", "session": {"model": "m", "audio": {"format": {"rate": 8000}}}}',
            "invalid_value",
        ),
        ('{"type": "session.close"}', "session_not_started"),
    ],
)
def test_what_makes_no_sense_at_first(message, code):
    wire = opened()
    (reply,) = wire.receive(message)
    assert json.loads(reply.message)["error"]["code"] == code
    assert any(isinstance(each, Begin) for each in wire.receive(json.dumps(START)))  # and the line goes on


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (START, "session_already_started"),
        ({"type": "session.input_audio.append", "audio": "not base64!"}, "invalid_value"),
        ({"type": "session.input_audio.append", "audio": "äö"}, "invalid_value"),
        ({"type": "session.input_audio.append"}, "invalid_value"),
        ({"type": "session.input_audio.append", "audio": base64.b64encode(b"abc").decode()}, "invalid_value"),
        ({"type": "session.input_audio.append", "audio": base64.b64encode(bytes(320_002)).decode()}, "invalid_value"),
        ({"type": "session.update", "session": {"model": "other"}}, "immutable"),
        ({"type": "response.create"}, "unknown_event"),
    ],
)
def test_what_makes_no_sense_later(message, code):
    wire, _ = started()
    assert replies(wire, message)[0]["error"]["code"] == code


@pytest.mark.parametrize(
    ("reason", "kinds", "closed"),
    [
        (CloseReason.FINISHED, ["session.closed"], "close_requested"),
        (CloseReason.TOO_LONG, ["session.closed"], "expired"),
        (CloseReason.FAILED, ["error", "session.closed"], "connection_lost"),
    ],
)
def test_ends(reason, kinds, closed):
    wire, _ = started()
    told = [json.loads(each) for each in wire.goodbye(reason, "why")]
    assert [each["type"] for each in told] == kinds
    assert told[-1]["reason"] == closed


def test_a_call_that_never_began_is_told_why():
    wire = opened()
    list(wire.receive(json.dumps(START)))
    (told,) = wire.goodbye(CloseReason.FULL, "full")
    assert json.loads(told)["error"] == {
        "type": "invalid_request_error",
        "code": "full",
        "message": "full",
        "client_event_id": "mine",
    }


def test_closing():
    wire, _ = started()
    assert list(wire.receive('{"type": "session.close"}')) == [End(CloseReason.FINISHED)]


def test_ten_thousand_messages_that_are_nearly_right():
    wire, fresh = started()[0], opened()
    for text in mutated(COMMANDS, 10_000):
        for each in (wire, fresh):
            try:
                actions = list(each.receive(text))
            except DuplexError:
                pytest.fail(f"{text!r} ended the call")
            assert all(isinstance(action, Reply | Audio | Begin | MuteUser) for action in actions)
            for action in actions:
                if isinstance(action, Reply):
                    json.loads(action.message)
