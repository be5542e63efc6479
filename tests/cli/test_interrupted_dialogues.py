"""`duplex score` and `duplex evaluate` that are killed, or come to a full disk: nothing half-written stays."""

import json
import subprocess
import sys
import time

import psutil
import pytest

from cli_support import COMMAND, FRAME, RATE, SMALL, files_below, noise, spawn, write_wav
from duplex.results.files import RESULT_FILES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs a shell's limits, and SIGKILL"),
]
LIMITED = ("sh", "-c", 'ulimit -f 8; exec "$@"', "sh")  # in blocks of 512 or 1024 bytes


def wait_for(condition, process):
    for _ in range(2400):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def killed(arguments, condition):
    """Kill the command once something is so."""
    line = [*COMMAND, *(str(argument) for argument in arguments)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(condition, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=30)
    psutil.wait_procs(children, timeout=30)


def test_a_score_that_was_killed_goes_on(tmp_path):
    write_wav(tmp_path / "in" / "a.wav", noise(0.4, channels=2))
    write_wav(tmp_path / "in" / "b.wav", noise(900.0, channels=2, rate=8000), rate=8000)
    out = tmp_path / "out"
    command = ["score", tmp_path / "in", "--out", out, "--model", SMALL, "--sessions", 1]
    killed(command, (out / "a" / "summary.json").is_file)
    assert files_below(out) == ["a/scores.safetensors", "a/summary.json"]
    write_wav(tmp_path / "in" / "b.wav", noise(0.4, channels=2, seed=1))
    outcome = spawn(*command)
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("(finished before)") == 1
    assert json.loads((out / "b" / "summary.json").read_text())["frames"] == 5


def test_scores_on_a_full_disk(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(300 * FRAME / RATE, channels=2))
    outcome = spawn("score", path, "--out", tmp_path / "out", "--model", SMALL, prefix=LIMITED)
    assert outcome.status == 1
    assert "cannot be written" in outcome.errors()[0]
    assert files_below(tmp_path / "out") == []


@pytest.fixture
def bench(tmp_path):
    for index, seconds in enumerate((0.4, 900.0)):
        folder = tmp_path / "bench" / "turns" / str(index)
        write_wav(folder / "input.wav", noise(seconds, rate=8000), rate=8000)
        (folder / "turn_taking.json").write_text(json.dumps([{"text": "", "timestamp": [0.1, 0.2]}]))
    return tmp_path / "bench"


GIVEN = ["turns/0/input.wav", "turns/0/turn_taking.json", "turns/1/input.wav", "turns/1/turn_taking.json"]


def test_an_evaluation_that_was_killed_goes_on(tmp_path, bench):
    out = tmp_path / "out"
    command = ["evaluate", "full-duplex-bench", bench, "--out", out, "--model", SMALL, "--sessions", 1]
    killed(command, lambda: bool(list(out.glob("turns/1/input/dialogue.wav.*.part"))))
    assert files_below(bench) == GIVEN
    before = (out / "turns" / "0" / "input" / "run.json").stat().st_mtime_ns
    write_wav(bench / "turns" / "1" / "input.wav", noise(0.4, seed=1))
    outcome = spawn(*command)
    assert outcome.status == 0, outcome.err
    assert (out / "turns" / "0" / "input" / "run.json").stat().st_mtime_ns == before
    results = [f"turns/{index}/input/{name}" for index in (0, 1) for name in RESULT_FILES]
    assert files_below(out) == sorted(["results.json", *results])
    assert len(files_below(bench)) == len(GIVEN) + 4


def test_an_evaluation_on_a_full_disk(tmp_path, bench):
    outcome = spawn(
        *("evaluate", "full-duplex-bench", bench, "--out", tmp_path / "out", "--model", SMALL), prefix=LIMITED
    )
    assert outcome.status == 1
    assert "cannot be written" in outcome.only_error()
    assert files_below(bench) == GIVEN
    assert not [path for path in files_below(tmp_path / "out") if path.endswith(".part")]
