"""Observers of a call, and who steers it from elsewhere: pure first, then beside real calls."""

import base64
import itertools
import json
import time

import numpy as np
import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from wires_support import PATIENCE, Heard, JsonCaller, in_base64, mutated

from duplex.errors import DuplexError
from duplex.events import AgentText, KeyPressed
from duplex.options import SessionOptions
from duplex.server import Settings
from duplex.server.close_reasons import CloseReason
from duplex.server.observers import MAX_OBSERVERS, MAX_WAITING_BYTES, Observers
from duplex.server.service import Service
from duplex.server.wires.base import CallDescription, CallRequest, End, MuteUser, Reply
from duplex.server.wires.live_sideband import ObservedSession, SidebandWire
from duplex.transports import wire
from server_support import FRAME, RATE, running, tone, until

LIVE = {"type": "session.start", "session": {"model": "fake"}}
ALICE, BOB = "alice:a-token-of-some-length", "bob:another-token-of-some-length"
COMMANDS = [
    {"type": "session.input_audio.mute", "event_id": "m"},
    {"type": "session.input_audio.append", "audio": "AAAA"},
    {"type": "session.thinking.append", "content": "x"},
    {"type": "session.update", "session": {"triggers": []}},
]


def observed(request=None):
    options = SessionOptions()
    description = CallDescription(model="tiny", sample_rate=RATE, frame_duration=0.08, options=options)
    return ObservedSession(session_id="s1", request=request or CallRequest(), description=description)


def opened():
    made = SidebandWire(observed())
    return made, json.loads(*made.opened())


def replies(sideband, message):
    return [json.loads(action.message) for action in sideband.receive(json.dumps(message)) if isinstance(action, Reply)]


def bearer(token):
    return {"Authorization": f"Bearer {token.partition(':')[2]}"}


def begin(caller):
    caller.say(**LIVE)
    return caller.until("session.started")["session"]["id"]


def attach(server, session_id, **options):
    return JsonCaller(server, f"/v1/live/sessions/{session_id}/attach", **options)


def client(server, key="unused"):
    return openai.OpenAI(api_key=key, base_url=server.url("/v1"), max_retries=0)


def said_of(events):
    return [each for each in events if each.type == "session.output_audio.delta"]


def test_what_an_observer_is_told():
    sideband, session = opened()
    assert session["type"] == "session.started"
    assert session["session"]["audio"]["format"] == {"type": "audio/pcm", "rate": 24000}
    (said,) = map(json.loads, sideband.said(1.2, b"\1\2"))
    assert (said["start_ms"], said["end_ms"], base64.b64decode(said["delta"])) == (1200, 1280, b"\1\2")
    (heard,) = map(json.loads, sideband.heard(b"\3\4"))
    assert heard == {"type": "session.input_audio.append", "audio": base64.b64encode(b"\3\4").decode()}
    (words,) = map(json.loads, sideband.tell(AgentText(sequence=1, at=0.4, text=" hello", token=7)))
    assert (words["type"], words["start_ms"], words["end_ms"]) == ("session.output_transcript.delta", 400, 480)
    (key,) = map(json.loads, sideband.tell(KeyPressed(sequence=2, at=0.4, key="5")))
    assert (key["type"], key["event"]) == ("transport.dtmf.received", "5")
    (usage,) = [json.loads(each) for each in sideband.said(32.0, b"") if "usage" in each]
    assert usage["usage"] == {"seconds": 32.08}
    (closed,) = map(json.loads, sideband.goodbye(CloseReason.FINISHED, "why"))
    assert (closed["type"], closed["reason"], closed["usage"]) == (
        "session.closed",
        "close_requested",
        {"seconds": 32.08},
    )


@pytest.mark.parametrize(
    ("reason", "kinds", "closed"),
    [
        (CloseReason.HUNG_UP, ["session.closed"], "connection_lost"),
        (CloseReason.TOO_LONG, ["session.closed"], "expired"),
        (CloseReason.STALLED, ["error", "session.closed"], "connection_lost"),
    ],
)
def test_how_a_session_ends(reason, kinds, closed):
    told = [json.loads(each) for each in opened()[0].goodbye(reason, "why")]
    assert [each["type"] for each in told] == kinds
    assert told[-1]["reason"] == closed


def test_what_an_observer_may_do():
    sideband, _ = opened()
    mute, reply = sideband.receive(json.dumps(COMMANDS[0]))
    assert mute == MuteUser(muted=True)
    assert json.loads(reply.message)["client_event_id"] == "m"
    assert next(iter(sideband.receive('{"type": "session.input_audio.unmute"}'))) == MuteUser(muted=False)
    assert list(sideband.receive('{"type": "session.close"}')) == [End(CloseReason.FINISHED)]
    (updated,) = replies(sideband, {"type": "session.update", "session": {}, "event_id": "u"})
    assert (updated["type"], updated["client_event_id"]) == ("session.updated", "u")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "session.input_audio.append", "audio": "AAAA", "event_id": "e"}, "not_supported"),
        ({"type": "session.commentary.append", "content": "x", "event_id": "e"}, "not_supported"),
        ({"type": "session.instructions.append", "content": "x", "event_id": "e"}, "not_supported"),
        ({"type": "session.start", "session": {}, "event_id": "e"}, "session_already_started"),
        ({"type": "session.update", "session": {"model": "m"}, "event_id": "e"}, "immutable"),
        ({"type": "transport.dtmf.send", "event": "5", "event_id": "e"}, "unknown_event"),
    ],
)
def test_what_an_observer_may_not_do(message, code):
    (told,) = replies(opened()[0], message)
    assert (told["type"], told["error"]["code"], told["client_event_id"]) == ("error", code, "e")


def test_ten_thousand_commands_that_are_nearly_right():
    sideband, _ = opened()
    for text in mutated(COMMANDS, 10_000):
        try:
            actions = list(sideband.receive(text))
        except DuplexError:
            pytest.fail(f"{text!r} ended the observation")
        assert all(isinstance(action, Reply | MuteUser) for action in actions)


@pytest.mark.anyio
async def test_who_does_not_read_is_told_what_was_left_out():
    observers = Observers(RATE)
    slow, other = observers.join(opened()[0]), observers.join(opened()[0])
    frames = 2 * MAX_WAITING_BYTES // (2 * FRAME)
    for _ in range(frames):
        observers.hear(tone(0.08))
        while len(other._notes):  # this one reads
            await other.take()
    observers.end(CloseReason.FINISHED, "over")
    told = []
    while (note := await slow.take()) is not None:
        told += map(json.loads, note())
    kept = [each for each in told if each["type"] == "session.input_audio.append"]
    assert told[0]["code"] == "observer_lag"
    assert told[0]["message"].startswith(f"{frames - len(kept)} messages")
    assert 0 < len(kept) <= MAX_WAITING_BYTES // (2 * FRAME)
    assert await other.take() is None


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")  # of websockets, about what openai does with it
def test_the_client_of_openai_observes_and_closes(models):
    with running(models(), Settings(idle_timeout=0)) as server, JsonCaller(server, "/v1/live/sessions") as caller:
        session_id, pieces = begin(caller), [tone(0.08, level) for level in (0.1, 0.3, 0.2, 0.4)]
        with client(server) as openai_client, openai_client.live.sideband.connect(session_id=session_id) as sideband:
            assert sideband.recv().session.id == session_id
            for piece in pieces:
                caller.say(type="session.input_audio.append", audio=in_base64(piece))
            events = []
            while [each.type for each in events].count("session.input_audio.append") < len(pieces) or not said_of(
                events
            ):
                events.append(sideband.recv())
            sideband.session.close()
            while events[-1].type != "session.closed":
                events.append(sideband.recv())
        caller.rest()
    assert caller.messages[-1]["reason"] == events[-1].reason == "close_requested"
    heard = [base64.b64decode(each.audio) for each in events if each.type == "session.input_audio.append"]
    assert heard == [base64.b64decode(in_base64(piece)) for piece in pieces]
    said = said_of(events)
    frames = [each["delta"] for each in caller.messages if each["type"] == "session.output_audio.delta"]
    # On a busy machine frames are left out on their way to either, so what both got is compared.
    assert set(frames) & {each.delta for each in said}
    assert all(a.start_ms < b.start_ms for a, b in itertools.pairwise(said))
    assert all(each.end_ms == each.start_ms + 80 for each in said)
    words = [each["delta"] for each in caller.messages if each["type"] == "session.output_transcript.delta"]
    read = [each.delta for each in events if each.type == "session.output_transcript.delta"]
    assert words[len(words) - len(read) :] == read


@pytest.mark.parametrize("mutes", ["caller", "observer"])
def test_a_muted_caller_is_silence_to_the_model_and_heard_by_observers(models, monkeypatch, tmp_path, mutes):
    heard = Heard()
    monkeypatch.setattr(Service, "recording", lambda *_: heard)
    with (
        running(models(), Settings(idle_timeout=0, record=tmp_path)) as server,
        JsonCaller(server, "/v1/live/sessions") as caller,
        attach(server, begin(caller)) as observer,
    ):
        who = caller if mutes == "caller" else observer
        who.say(type="session.input_audio.mute")
        who.until("session.input_audio.muted")
        caller.say(type="session.input_audio.append", audio=in_base64(tone(0.08)))
        caller.until("session.output_audio.delta")
        loud = np.frombuffer(base64.b64decode(observer.until("session.input_audio.append")["audio"]), "<i2")
        who.say(type="session.input_audio.unmute")
        who.until("session.input_audio.unmuted")
        before = len(heard.frames)
        caller.say(type="session.input_audio.append", audio=in_base64(tone(0.08)))
        until(lambda: any(np.abs(frame.user_pcm).max() > 0.01 for frame in heard.frames))
    assert np.abs(loud).max() > 1000
    assert all(np.abs(frame.user_pcm).max() == 0 for frame in heard.frames[:before])


def test_calls_on_other_wires_are_observed(models):
    with running(models(), Settings(idle_timeout=0)) as server, server.call("?events=full&format=pcm") as caller:
        session_id = None
        while session_id is None:
            told = json.loads(caller.until(wire.Kind.METADATA).payload)
            session_id = told.get("session_id")
        with attach(server, session_id) as observer:
            observer.until("session.started")
            caller.say(tone(0.08), audio_format="pcm")
            observer.until("session.output_audio.delta")
            caller.websocket.close()
            assert observer.until("session.closed")["reason"] == "connection_lost"


def test_only_the_owner_observes_and_hangs_up(models):
    settings = Settings(tokens=(ALICE, BOB), idle_timeout=0)
    with (
        running(models(), settings) as server,
        JsonCaller(server, "/v1/live/sessions", additional_headers=bearer(ALICE)) as caller,
    ):
        session_id = begin(caller)
        for headers, number, status in (
            (bearer(BOB), session_id, 404),
            ({}, session_id, 401),
            (bearer(ALICE), "x", 404),
        ):
            with pytest.raises(InvalidStatus) as refused:
                attach(server, number, additional_headers=headers)
            assert refused.value.response.status_code == status
        with client(server, BOB.partition(":")[2]) as bob, pytest.raises(openai.NotFoundError):
            bob.live.sessions.hangup(session_id)
        with client(server) as nobody, pytest.raises(openai.AuthenticationError):
            nobody.live.sessions.hangup(session_id)
        with (
            client(server, ALICE.partition(":")[2]) as alice,
            attach(server, session_id, additional_headers=bearer(ALICE)) as observer,
        ):
            alice.live.sessions.hangup(session_id)
            assert observer.until("session.closed")["reason"] == "close_requested"
        caller.rest()
        assert caller.messages[-1]["type"] == "session.closed"
        with pytest.raises(InvalidStatus):  # it is over
            attach(server, session_id, additional_headers=bearer(ALICE))


def test_pages_of_others_and_one_observer_too_many(models):
    with running(models(), Settings(idle_timeout=0)) as server, JsonCaller(server, "/v1/live/sessions") as caller:
        session_id = begin(caller)
        with pytest.raises(InvalidStatus) as refused:
            attach(server, session_id, origin="https://elsewhere.example")
        assert refused.value.response.status_code == 403
        several = [attach(server, session_id) for _ in range(MAX_OBSERVERS)]
        with pytest.raises(InvalidStatus) as refused:
            attach(server, session_id)
        assert refused.value.response.status_code == 429
        for each in several:
            each.until("session.started")
            each.websocket.close()
        end = time.monotonic() + PATIENCE
        while True:  # a place becomes free as soon as the server has noticed
            try:
                attach(server, session_id).until("session.started")
                break
            except InvalidStatus:
                assert time.monotonic() < end


def test_observers_who_stall_vanish_or_rage_disturb_no_call(models, monkeypatch):
    monkeypatch.setattr("duplex.server.observers.MAX_WAITING_BYTES", 1 << 15)
    monkeypatch.setattr("duplex.server.sideband.CLOSE_TIMEOUT", 0.2)
    with running(models(), Settings(idle_timeout=0)) as server, JsonCaller(server, "/v1/live/sessions") as caller:
        session_id = begin(caller)
        path = server.url(f"/v1/live/sessions/{session_id}/attach", "ws")
        stalled = connect(path, compression=None, max_queue=1).__enter__()
        gone = attach(server, session_id)
        gone.until("session.started")
        gone.websocket.socket.close()
        raging = attach(server, session_id)
        for _ in range(3000):
            raging.websocket.send('{"type": "nonsense"}')
        for _ in range(100):
            caller.say(type="session.input_audio.append", audio=in_base64(tone(0.08)))
            caller.until("session.output_audio.delta")
        raging.rest()
        assert "session.closed" not in raging.kinds()
        assert raging.code == 1008
        caller.say(type="session.close")
        assert caller.rest()[-1]["type"] == "session.closed"
        stalled.socket.close()
