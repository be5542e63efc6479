"""`silence=skip` and `persona=optional`: for clients whose turns end when no audio comes, and that write the address
themselves."""

import json
import time
from urllib.parse import quote

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from wires_support import JsonCaller, in_base64

import duplex
from duplex.errors import UsageError
from duplex.server import Settings
from duplex.server.wires.base import Opening
from duplex.server.wires.chat import ChatWire
from duplex.server.wires.live import LiveWire
from duplex.server.wires.table import WIRES
from duplex.transports import wire
from persona_support import EXPECTED, FOLDER, PROMPT
from server_support import FRAME, Caller, running, tone

SILENT, LOUD = np.zeros(FRAME, np.float32), tone(0.08, 0.2)
JUST_BELOW, JUST_ABOVE = tone(0.08, 0.0078), tone(0.08, 0.0081)
"""Of a sine: -45.2 and -44.8 dBFS."""
FIRST = int(EXPECTED["text"][1])
"""The text of the first frame, which hangs on the prompt alone."""


def opened(query, kind="chat"):
    return WIRES[kind].open(Opening(url="ws://x/", query=query, headers={}))


def wanted(wire, frames):
    return "".join("x" if wire.wants(frame) else "." for frame in frames)


@pytest.mark.parametrize(
    ("frames", "sent"),
    [
        ([SILENT] * 8, "........"),
        ([SILENT, LOUD, LOUD, *[SILENT] * 7, LOUD], ".xxxxxx...x"),
        ([LOUD, *[SILENT] * 4, LOUD, *[SILENT] * 5], "xxxxxxxxxx."),
        ([JUST_BELOW] * 3 + [JUST_ABOVE] * 3 + [JUST_BELOW] * 6, "...xxxxxxx.."),
    ],
)
def test_frames_of_silence_are_left_out(frames, sent):
    """A pause of four frames is heard; the fifth and what follows are not, and the first loud one is, at once."""
    assert wanted(opened({"silence": "skip"}), frames) == sent
    assert wanted(opened({}, "personaplex"), frames) == sent


@pytest.mark.parametrize("query", [{}, {"silence": "keep"}, {"silence": ""}])
def test_silence_is_sent_unless_it_is_to_be_left_out(query):
    assert wanted(opened(query), [SILENT] * 8) == "x" * 8
    assert wanted(opened({"silence": "keep"}, "personaplex"), [SILENT] * 8) == "x" * 8


@pytest.mark.parametrize(("word", "value"), [("silence", "drop"), ("silence", "SKIP"), ("persona", "maybe")])
def test_other_values_make_no_sense(word, value):
    with pytest.raises(UsageError, match=f"{word} is '{value}'"):
        opened({word: value})


def test_who_may_pause():
    """Who leaves silence out may leave out its own; others that send nothing are gone."""
    assert not ChatWire(Opening(url="", query={}, headers={})).may_pause
    assert opened({"silence": "skip"}).may_pause
    assert opened({}, "personaplex").may_pause
    assert LiveWire(Opening(url="", query={}, headers={})).may_pause


def hears_nothing(caller, seconds):
    """Read words, of which the fake has many, for a while; no audio may come."""
    due = time.monotonic() + seconds
    while time.monotonic() < due:
        assert caller.next().kind is not wire.Kind.AUDIO


def test_who_leaves_silence_out_is_not_idle(models):
    """No audio in either direction, and the call goes on for as long as it likes."""
    with running(models(), Settings(idle_timeout=0.3)) as server, server.call("?silence=skip") as caller:
        caller.until(wire.Kind.HANDSHAKE)
        caller.until(wire.Kind.AUDIO)  # the header
        hears_nothing(caller, 1.2)
        caller.finish()
        assert caller.end()[0] == 1000


def test_what_is_left_out_leaves_no_gap(models):
    """Ogg's pages are numbered without one, so that no client takes audio for lost."""
    with running(models(), Settings(idle_timeout=0.3)) as server, server.call("?silence=skip") as caller:
        caller.until(wire.Kind.HANDSHAKE)
        for _ in range(2):
            caller.say(np.tile(LOUD, 4), pace=0.08)
            caller.until(wire.Kind.AUDIO)
            read_until_silent(caller)
            hears_nothing(caller, 0.6)
        caller.finish()
        assert caller.end()[0] == 1000
        pages = b"".join(caller.payloads(wire.Kind.AUDIO))
    found = [int.from_bytes(page[14:18], "little") for page in pages.split(b"OggS")[1:]]
    assert len(found) > 2 + 2 * 4  # two headers, and twice as much as was said at least
    assert found == list(range(len(found)))


def read_until_silent(caller):
    """Read on until as many words as half a second has come without audio."""
    quiet = 0
    while quiet < 6:
        quiet = 0 if caller.next().kind is wire.Kind.AUDIO else quiet + 1


def test_a_live_client_with_a_muted_microphone_is_not_idle(models):
    with running(models(), Settings(idle_timeout=0.3)) as server, JsonCaller(server, "/v1/live/sessions") as caller:
        caller.say(type="session.start", session={"model": "fake"})
        caller.until("session.started")
        began = time.monotonic()
        while time.monotonic() < began + 1.2:
            caller.next()
        caller.say(type="session.input_audio.append", audio=in_base64(LOUD))
        caller.say(type="session.close")
        assert caller.until("session.closed")["reason"] == "close_requested"
    assert caller.code in (None, 1000)


def persona_refused(server, query):
    with pytest.raises(InvalidStatus) as refused:
        server.call(query)
    return refused.value.response.status_code


def called(server, path):
    return Caller(connect(server.url(path, "ws"), compression=None).__enter__())


def test_a_persona_that_the_model_cannot_take(models):
    asked = f"voice_prompt=NATF2.pt&text_prompt={quote(PROMPT)}&format=pcm"
    with running(models()) as server:
        assert persona_refused(server, f"?{asked}") == 400
        assert persona_refused(server, f"?{asked}&persona=required") == 400
        with server.call(f"?{asked}&persona=optional") as caller:
            told = json.loads(caller.until(wire.Kind.METADATA).payload)
            caller.until(wire.Kind.HANDSHAKE)
            caller.finish()
            assert caller.end()[0] == 1000
        assert told["type"] == "LeftOut"
        assert [("no instructions" in each, "no voice" in each) for each in told["reasons"]] == [
            (True, False),
            (False, True),
        ]


def test_a_model_that_is_not_there_is_no_matter_of_the_persona(models):
    with running(models()) as server:
        assert persona_refused(server, "?model=nobody&persona=optional") == 400


@pytest.mark.parametrize("path", ["/api/chat", "/personaplex/api/chat"])
def test_a_persona_that_the_model_takes(path):
    asked = f"?text_prompt={quote(PROMPT)}&persona=optional&silence=keep&format=pcm&events=full"
    asked += "&text_temperature=0&audio_temperature=0"
    with duplex.load(str(FOLDER), backend="torch", device="cpu") as model, running(model) as server:
        for voice, wanted_text in (("voice.pt", FIRST), ("NATF2.pt", None)):
            with called(server, f"{path}{asked}&voice_prompt={voice}") as caller:
                caller.until(wire.Kind.HANDSHAKE)
                caller.say(tone(0.24), audio_format="pcm")  # so few that none has to be skipped
                caller.finish()
                assert caller.end()[0] == 1000
                told = [json.loads(payload) for payload in caller.payloads(wire.Kind.METADATA)]
            reasons = [reason for each in told if each["type"] == "LeftOut" for reason in each["reasons"]]
            if wanted_text is None:
                assert "no voice 'NATF2.pt'" in reasons[0]
                continue
            assert not reasons
            assert wanted_text in [each["token"] for each in told if each["type"] == "AgentText" and each["at"] == 0]
