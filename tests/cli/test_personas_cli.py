"""``--instructions`` and ``--voice``: what cannot be used is wrong use, found before a model is loaded."""

import json

import numpy as np
import pytest

from cli_support import SMALL, noise, run, tokens_of, write_wav
from duplex.engine import loading
from persona_support import FOLDER, PROMPT, USER, expected_tokens

MODEL = ("--model", FOLDER, "--backend", "torch", "--dtype", "float32", "--greedy")
WAV = FOLDER / "voices" / "voice.wav"


@pytest.fixture
def question(tmp_path):
    return write_wav(tmp_path / "question.wav", USER)


@pytest.fixture
def unloaded(monkeypatch):
    """Fail if a backend is asked to load a model."""

    def load_model(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("duplex.backends.torch.load_model", load_model)
    assert loading._backend("torch", "cpu").load_model is load_model


def process(question, out, *more):
    return run("process", question, "--out", out, *MODEL, *more)


def test_a_recording_is_answered_by_a_persona(question, tmp_path):
    voice = tmp_path / "mine.wav"
    voice.write_bytes(WAV.read_bytes())
    out = tmp_path / "out"
    asked = ("--instructions", PROMPT, "--voice", voice)
    assert process(question, out, *asked).status == 0
    found = tokens_of(out / "question")
    np.testing.assert_array_equal(found["text"][:36], expected_tokens()[0])
    np.testing.assert_array_equal(found["agent"][:, :36], expected_tokens()[1:9])
    record = json.loads((out / "question" / "run.json").read_text())["options"]
    assert (record["instructions"], record["voice"]) == (PROMPT, str(voice))
    assert "finished before" in process(question, out, *asked).out
    write_wav(voice, noise(2))
    assert "finished before" not in process(question, out, *asked).out  # another voice under the same name


def bad_voices(folder):
    (folder / "broken.pt").write_bytes(b"PK nothing")
    (folder / "text.wav").write_text("no sound")
    write_wav(folder / "silent.wav", np.zeros(48000, np.float32))
    write_wav(folder / "long.wav", np.tile(noise(10), (7, 1)))
    (folder / "folder").mkdir()
    return folder


CASES = [
    (("--voice", "broken.pt"), "no voice can be read"),
    (("--voice", "text.wav"), "not a recording"),
    (("--voice", "silent.wav"), "nothing but silence"),
    (("--voice", "long.wav"), "longer than 60 s"),
    (("--voice", "folder"), "choose among voice"),
    (("--voice", "x" * 300), "choose among voice"),
    (("--voice", "nobody"), "there is no voice 'nobody'; choose among voice"),
    (("--instructions", "so long " * 200), "remembers 160"),
    (("--instructions", "x" * 70000), "at most 20000"),
]


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(("options", "told"), CASES)
def test_what_cannot_be_used_is_wrong_use(question, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(bad_voices(tmp_path))
    done = process(question, tmp_path / "out", *options)
    assert (done.status, told in done.only_error()) == (2, True), done.err
    assert not (tmp_path / "out").exists()
    talking = run("talk", *MODEL, *options)
    assert (talking.status, told in talking.errors()[0]) == (2, True), talking.err


@pytest.mark.usefixtures("unloaded")
def test_a_model_without_personas_says_so(question, tmp_path):
    for command in (("process", question, "--out", tmp_path / "out"), ("talk",)):
        done = run(*command, "--model", SMALL, "--instructions", "Be kind.")
        assert (done.status, "takes no instructions" in done.errors()[0]) == (2, True), done.err


def test_info_tells_the_voices():
    assert json.loads(run("info", FOLDER, "--json").out)["model"]["voices"] == ["voice"]


@pytest.mark.usefixtures("unloaded")
def test_a_voice_that_is_not_there_is_told_before_a_model_of_synthesis_is_loaded(tmp_path):
    folder = FOLDER.parent / "tts"
    result = run("say", "Hello.", "--model", folder, "--backend", "torch", "--voice", "nobody", "--out", tmp_path / "x")
    assert result.status == 2
    assert "nobody" in result.err
    assert "first.wav" in result.err
