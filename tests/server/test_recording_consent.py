"""Who agrees to be recorded, and what callers by telephone are told."""

import base64
import json

import numpy as np
import pytest
from recordings_support import ALICE, BOB, bearer, model, recorded, talk  # noqa: F401
from websockets.exceptions import InvalidStatus
from wires_support import JsonCaller

from cli_support import run
from duplex.audio.wav import WavWriter
from duplex.errors import DuplexError
from duplex.server import Settings
from duplex.server.consent import Consent
from duplex.server.recordings import recordings_in
from server_support import get, running, until


@pytest.mark.parametrize(
    ("settings", "name", "answer", "expected"),
    [
        ({}, "chat", "", (False, False, "")),
        ({}, "chat", "agreed", (False, False, "")),
        ({"record": "x"}, "chat", "", (True, False, "told")),
        ({"record": "x"}, "chat", "agreed", (True, False, "agreed")),
        ({"record": "x"}, "chat", "refused", None),
        ({"record": "x"}, "chat", "perhaps", None),
        ({"record": "x", "record_with_consent": True}, "chat", "", (False, False, "told")),
        ({"record": "x", "record_with_consent": True}, "chat", "refused", (False, False, "")),
        ({"record": "x", "record_with_consent": True}, "live", "agreed", (True, False, "agreed")),
        ({"record": "x", "record_with_consent": True, "notice": "n"}, "twilio", "", (True, True, "notice")),
        ({"record": "x", "record_with_consent": True, "notice": "n"}, "chat", "", (False, False, "told")),
        ({"record": "x", "notice": "n"}, "plivo", "", (True, True, "notice")),
        ({"notice": "n"}, "plivo", "", (False, False, "")),
    ],
)
def test_who_is_recorded(settings, name, answer, expected):
    query = {"recording": answer} if answer else {}
    if expected is None:
        with pytest.raises(DuplexError, match="recording"):
            Consent.of(Settings(**settings), name, query)
    else:
        consent = Consent.of(Settings(**settings), name, query)
        assert (consent.recorded, consent.notice, consent.how) == expected


def test_only_who_agrees_is_recorded_and_the_answer_says_so(model, tmp_path):
    with running(model, Settings(record=tmp_path, record_with_consent=True)) as server:
        info = json.loads(get(server, "/api/info")[2])
        assert (info["recorded"], info["recording_optional"]) == (True, True)
        for answer, told in (("refused", None), ("agreed", "true"), ("", None)):
            with server.call(f"?recording={answer}") as caller:
                assert caller.websocket.response.headers.get("Duplex-Recorded") == told
        session = talk(server, query="&recording=agreed")
        talk(server, query="&recording=refused")
        until(lambda: session in [each.session for each in recordings_in(tmp_path)])
        for query in ("?recording=maybe", "?recording=refused&recording=agreed"):
            with pytest.raises(InvalidStatus, match="400"):
                server.call(query)
        with server.call("?recording=refused&recording=refused") as caller:
            assert caller.websocket.response.headers.get("Duplex-Recorded") is None
    abouts = [json.loads((each.path / "call.json").read_text()) for each in recordings_in(tmp_path)]
    assert {each["consent"] for each in abouts} == {"agreed"}
    assert {each["wire"] for each in abouts} == {"chat"}


def test_a_caller_by_telephone_hears_the_notice_and_is_not_heard_meanwhile(model, tmp_path):
    notice = tmp_path / "notice.wav"
    with WavWriter(notice, channels=1, sample_rate=16000) as writer:
        writer.write((0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.float32))
    folder = tmp_path / "calls"
    with (
        running(model, Settings(record=folder, notice=notice)) as server,
        JsonCaller(server, "/twilio") as caller,
    ):
        caller.say(event="start", streamSid="s", start={"mediaFormat": {"encoding": "audio/x-mulaw"}})
        heard = b""
        while len(heard) < 8000:
            heard += base64.b64decode(caller.until("media", "event")["media"]["payload"])
        assert len(set(heard[1000:7000])) > 20, "a tone, and no silence"
        caller.say(event="stop")
        caller.rest()
    (each,) = recorded(folder, 1)
    assert json.loads((each.path / "call.json").read_text())["consent"] == "notice"


def test_a_notice_that_cannot_be_played_is_told_before_a_model_is_loaded(tmp_path):
    (tmp_path / "notice.wav").write_bytes(b"no sound")
    ran = run("serve", "--notice", tmp_path / "notice.wav", "--port", "0")
    assert ran.status in {1, 2}
    assert "notice.wav" in ran.err
