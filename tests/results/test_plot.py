"""Pictures of dialogues, as `duplex plot` draws them."""

import json
import sys

import numpy as np
import pytest

from cli_support import RATE, run, write_wav
from duplex.process import timeline
from duplex.results import files

SECONDS = 12.5


@pytest.fixture
def results(tmp_path):
    """A finished folder of results: the user speaks from 1 to 2 s, the agent from 3 s to the end."""
    folder = tmp_path / "question"
    time = np.arange(round(SECONDS * RATE)) / RATE
    tone = 0.25 * np.sin(2 * np.pi * 220 * time)
    pcm = np.stack([tone * ((time >= 1) & (time < 2)), tone * (time >= 3)], axis=1)
    write_wav(folder / files.DIALOGUE, pcm)
    words = [{"text": "Hello", "timestamp": [3.0, 3.4]}, {"text": "$5_x^2$", "timestamp": [11.0, 11.4]}]
    (folder / files.TRANSCRIPT).write_text(json.dumps({"text": "Hello $5_x^2$", "chunks": words}))
    events = [
        ("SessionStarted", 0),
        ("UserSpeechStarted", 1.0),
        ("UserSpeechStopped", 2.0),
        ("AgentSpeechStarted", 3.0),
    ]
    lines = (json.dumps({"type": kind, "sequence": index, "at": at}) for index, (kind, at) in enumerate(events))
    (folder / files.EVENTS).write_text("".join(f"{line}\n" for line in lines))
    (folder / files.RUN).write_text("{}")
    return folder


def test_a_picture(results):
    outcome = run("plot", results)
    assert (outcome.status, outcome.out) == (0, f"{results / 'lanes.png'}\n")
    assert (results / "lanes.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_drawn(results):
    drawn = timeline.read_timeline(results, 0.0, None)
    assert drawn.speech == [("user", 1.0, 2.0), ("agent", 3.0, SECONDS)]
    loud = {name: np.flatnonzero(peaks > 0.1) * timeline.BIN for name, peaks in drawn.peaks.items()}
    assert loud["user"].min() == pytest.approx(1.0, abs=timeline.BIN)
    assert loud["user"].max() == pytest.approx(2.0, abs=2 * timeline.BIN)
    assert loud["agent"].min() == pytest.approx(3.0, abs=timeline.BIN)
    assert len(drawn.peaks["user"]) == round(SECONDS / timeline.BIN)


def test_a_stretch(results, tmp_path):
    drawn = timeline.read_timeline(results, 2.5, 4.0)
    assert len(drawn.peaks["agent"]) == round(1.5 / timeline.BIN)
    assert np.flatnonzero(drawn.peaks["agent"] > 0.1)[0] * timeline.BIN == pytest.approx(0.5, abs=timeline.BIN)
    assert run("plot", results, "--start", "2.5", "--end", "4", "--out", tmp_path / "part.svg").status == 0
    picture = (tmp_path / "part.svg").read_text()
    assert "<svg" in picture
    assert "Hello" in picture
    assert "$5_x" not in picture, "it is said later"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "picture.txt"], "end in .png"),
        (["--start", "13"], "12.50 s long"),
        (["--start", "5", "--end", "4"], "nothing from 5 to 4 s"),
        (["--start", "-1"], "nothing from -1"),
    ],
)
def test_wrong_use(results, arguments, words):
    outcome = run("plot", results, *arguments)
    assert outcome.status == 2
    assert words in outcome.only_error()


def test_no_results(tmp_path, results):
    assert "holds no finished results" in run("plot", tmp_path).only_error()
    (results / files.TRANSCRIPT).write_text("{}")
    assert "--force" in run("plot", results).only_error()


def test_too_long(results, monkeypatch):
    monkeypatch.setattr(timeline, "MAX_SECONDS", 10.0)
    assert "choose up to 10 s" in run("plot", results).only_error()


def test_without_matplotlib(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "[plot]'" in run("plot", results).only_error()
