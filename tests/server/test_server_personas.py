"""Who the agent is, by the address of a call: what cannot be used is refused before the websocket opens."""

import json
import pickle
import zipfile
from urllib.parse import quote

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

import duplex
from cli_support import write_wav
from duplex.errors import CheckpointError, UsageError
from duplex.server import Settings, application
from duplex.transports import wire
from persona_support import EXPECTED, FOLDER, PROMPT
from server_support import get, running, tone

WAV, PT = FOLDER / "voices" / "voice.wav", FOLDER / "voices" / "voice.pt"
GREEDY = "text_temperature=0&audio_temperature=0&format=pcm&events=full"
FIRST = int(EXPECTED["text"][1])
"""The text of the first frame, which hangs on the prompt alone: a live call's later ones hang on its timing too."""


@pytest.fixture(scope="module")
def persona():
    with duplex.load(str(FOLDER), backend="torch", device="cpu", sessions=2) as model:
        yield model


class Code:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Voices that a server offers, sound ones and others."""
    made = tmp_path_factory.mktemp("served") / "offered"
    made.mkdir()
    (made / "ours.wav").write_bytes(WAV.read_bytes())
    (made / "packed.pt").write_bytes(PT.read_bytes())
    (made / "cut.pt").write_bytes(PT.read_bytes()[:2000])
    (made / "text.wav").write_text("no sound at all")
    with zipfile.ZipFile(made / "code.pt", "w") as archive:
        archive.writestr("voice/data.pkl", pickle.dumps({"embeddings": Code()}))
    write_wav(made / "silent.wav", np.zeros(48000, np.float32))
    write_wav(made / "short.wav", tone(0.3))
    write_wav(made / "long.wav", np.tile(tone(60), 10))
    (made / "notes.txt").write_text("no voice")
    (made.parent / "secret.wav").write_bytes(WAV.read_bytes())
    return made


def refusal(server, query):
    with pytest.raises(InvalidStatus) as refused:
        server.call(query)
    return refused.value.response.status_code, json.loads(refused.value.response.body)["error"]


def first_token(server, query):
    """Return the text of a call's first frame, ``None`` if it has none."""
    with server.call(query) as caller:
        caller.until(wire.Kind.HANDSHAKE)
        caller.say(tone(0.24), audio_format="pcm")  # so few that none has to be skipped
        caller.finish()
        assert caller.end()[0] == 1000
        told = [json.loads(payload) for payload in caller.payloads(wire.Kind.METADATA)]
    return next((event["token"] for event in told if event["type"] == "AgentText" and event["at"] == 0), None)


@pytest.mark.parametrize("voice", ["voice", "voice.pt", "ours", "packed"])
def test_a_persona_in_the_address(persona, folder, voice):
    with running(persona, Settings(voices=folder)) as server:
        assert first_token(server, f"?text_prompt={quote(PROMPT)}&voice_prompt={voice}&{GREEDY}") == FIRST
        assert first_token(server, f"?{GREEDY}") != FIRST


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"voice": "cut"}, "no voice can be read"),
        ({"voice": "code"}, "it wants to call"),
        ({"voice": "text"}, "not a recording"),
        ({"voice": "silent"}, "nothing but silence"),
        ({"voice": "short"}, r"needs 0.4 s"),
        ({"voice": "long"}, "longer than 60 s"),
        ({"voice": "nobody"}, "no voice 'nobody'; choose among"),
        ({"instructions": "so long " * 200}, "remembers 160"),
        ({"voice": "ours", "text_prompt": "good " * 140}, "shorten"),
    ],
)
def test_what_cannot_be_used_is_refused_at_the_handshake(persona, folder, asked, told):
    with running(persona, Settings(voices=folder)) as server:
        status, text = refusal(server, "?" + "&".join(f"{name}={quote(value)}" for name, value in asked.items()))
        assert status == 400
        assert told in text
        assert str(folder.parent) not in text
        ended = [
            line for line in get(server, "/metrics")[2].splitlines() if line.startswith("duplex_calls_ended_total{")
        ]
        assert all(line.endswith(" 0.0") for line in ended)
    assert persona.free == persona.sessions


@pytest.mark.parametrize(
    "voice", ["../secret", "../secret.wav", "/etc/passwd", "%2e%2e/secret.wav", "notes", "a%00b", str(WAV), "x" * 5000]
)
def test_a_callers_path_is_no_voice(persona, folder, voice):
    with running(persona, Settings(voices=folder)) as server:
        status, told = refusal(server, f"?voice_prompt={voice}")
    assert status == 400
    assert "choose among code, cut, long, ours, packed, short, silent, text, voice" in told


def test_the_right_voice_for_another_width_of_model(persona, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"embeddings": torch.zeros(14, 1, 1, 64), "cache": torch.zeros(1, 17, 4).long()}, tmp_path / "wide.pt")
    torch.save(
        {"embeddings": torch.full((14, 1, 1, 32), torch.nan), "cache": torch.zeros(1, 17, 4).long()},
        tmp_path / "nan.pt",
    )
    with running(persona, Settings(voices=tmp_path)) as server:
        assert refusal(server, "?voice=wide") == (
            400,
            "the voice 'wide': this is no voice of such a model; give one that was made for it, or a recording",
        )
        assert refusal(server, "?voice=nan")[0] == 400


def test_a_voice_that_has_gone(persona, tmp_path):
    path = tmp_path / "fleeting.wav"
    path.write_bytes(WAV.read_bytes())
    with running(persona, Settings(voices=tmp_path)) as server:
        assert first_token(server, f"?text_prompt={quote(PROMPT)}&voice=fleeting&{GREEDY}") == FIRST
        path.unlink()
        status, told = refusal(server, "?voice=fleeting")
    assert status == 400
    assert str(tmp_path) not in told


def test_a_damaged_archive_of_voices_shows_when_the_server_starts(tmp_path):
    for path in FOLDER.iterdir():
        if path.is_file():
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "voices.tgz").write_bytes(b"no archive")
    with (
        duplex.load(str(tmp_path), backend="torch", device="cpu") as model,
        pytest.raises(CheckpointError, match=r"voices\.tgz"),
    ):
        application(model)


def test_the_page_is_told_what_the_model_takes(persona, folder, models):
    with running(persona, Settings(voices=folder)) as server:
        told = json.loads(get(server, "/api/info")[2])
        assert (told["persona"], told["voices"][3:5]) == (True, ["ours", "packed"])
    with running(models()) as server:
        told = json.loads(get(server, "/api/info")[2])
        assert (told["persona"], told["voices"]) == (False, [])
        status, text = refusal(server, "?text_prompt=Be%20kind")
        assert status == 400
        assert "takes no instructions" in text
        assert refusal(server, "?voice_prompt=NATF0")[0] == 400
        with server.call("?text_prompt=&voice_prompt=&format=pcm") as caller:  # as the original's page sends them
            caller.finish()
            assert caller.end()[0] == 1000


@pytest.mark.anyio
async def test_connect_names_a_voice_of_the_server(persona, folder):
    options = duplex.SessionOptions(instructions=PROMPT, voice="ours", greedy=True)
    with running(persona, Settings(voices=folder)) as server:
        async with duplex.connect(server.url("?format=pcm"), options=options) as conversation:
            found = [event async for event in conversation.run(tone(0.24))]
        first = next(event for event in found if isinstance(event, duplex.AgentText))
        assert (first.token, first.at) == (FIRST, 0)
        for voice in ("nobody", "silent"):
            with pytest.raises(UsageError, match=r"refuses \(400\).*voice"):
                async with duplex.connect(server.url(), options=duplex.SessionOptions(voice=voice)):
                    pass
