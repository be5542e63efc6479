"""``duplex measure`` as a user runs it."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from measuring_support import LEFT, recording, save, sounds

from cli_support import run, spawn


def test_measure_in_a_process_of_its_own(tmp_path):
    recording(tmp_path / "calls" / "one.wav")
    recording(tmp_path / "calls" / "two.wav", rate=8000)
    out = tmp_path / "out"
    done = spawn("measure", tmp_path / "calls", "--out", out, "--detector", "level", "--jobs", "2")
    assert done.status == 0
    assert done.err == "2 done; 0.01 hours of dialogue\n"
    assert f"one -> {out / 'one.json'}" in done.out
    assert "2 pauses, 1 gaps, 1 overlaps" in done.out
    with (out / "dialogues.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["gap_count"], row["first_speaker"]) for row in rows] == [
        ("one", "1", "left"),
        ("two", "1", "left"),
    ]
    with (out / "events.csv").open() as file:
        events = list(csv.DictReader(file))
    assert {row["event"] for row in events} == {
        *("unit", "turn", "pause", "gap", "overlap_between", "transfer", "interruption"),
    }
    again = run("measure", tmp_path / "calls", "--out", out, "--detector", "level")
    assert again.out.count("(finished before)") == 2


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'duplex-speech[plot]'")
    path = recording(tmp_path / "call.wav")
    outcome = run("measure", path, "--out", tmp_path / "out", "--detector", "level", "--plot")
    assert outcome.status == 0
    for name in ("offsets.png", "call.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_a_failure_is_one_line_and_status_1(tmp_path):
    path = save(tmp_path / "mono.wav", sounds(LEFT, 10))
    outcome = run("measure", path, "--out", tmp_path / "out")
    assert outcome.status == 1
    assert "is mono" in outcome.only_error()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing argument 'IN...'"),
        (("x.wav", "--jobs", "0"), "--jobs"),
        (("x.wav", "--minimum-silence", "-1"), "minimum_silence is -1"),
        (("x.wav", "--level", "nan"), "level is nan"),
        (("x.wav", "--detector", "ear"), "--detector"),
        (("x.wav", "--pair", "*-A", "*-A"), "no pair of patterns"),
        (("x.wav", "--pair", "left", "right"), "no pair of patterns"),
    ],
)
def test_wrong_use(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = run("measure", *arguments)
    assert outcome.status == 2
    assert words in outcome.only_error()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to interrupt")
def test_interrupting_tells_how_to_go_on_and_leaves_nothing_half_written(tmp_path):
    for number in range(40):
        recording(tmp_path / "calls" / f"{number:02}.wav", seconds=20.0)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "duplex", "measure", tmp_path / "calls", "--out", out, "--jobs", "2"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so do theirs
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    while not list(out.glob("*.json")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == "duplex: error: interrupted; run it again to go on with what is not finished\n"
    assert {path.suffix for path in out.iterdir()} == {".json"}
    for path in out.iterdir():
        json.loads(path.read_text())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    recording(tmp_path / "call.wav")
    out = tmp_path / "out"
    full = ["bash", "-c", 'ulimit -f 2; trap "" XFSZ; exec "$@"', "bash"]  # no file above 2 KiB
    outcome = spawn("measure", tmp_path / "call.wav", "--out", out, "--detector", "level", prefix=full)
    assert outcome.status == 1
    assert "cannot be written" in outcome.only_error()
    assert list(out.iterdir()) == []


def test_measuring_imports_no_torch(tmp_path):
    path = recording(tmp_path / "call.wav")
    program = (
        "import sys\n"
        "from duplex.measuring.one import measure_source\n"
        "from duplex.measuring import Settings, find_dialogues\n"
        "measure_source(*find_dialogues([sys.argv[1]]), Settings())\n"
        "assert not {'torch', 'mlx', 'onnxruntime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program, path], check=True, timeout=60)
