"""Results that cannot be written, and runs that are interrupted: nothing half-written stays."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from bad_input_support import process
from safetensors.numpy import save_file

from cli_support import (
    COMMAND,
    SMALL,
    files_below,
    noise,
    read_wav,
    run,
    spawn,
    write_wav,
)
from duplex.results.files import RESULT_FILES


def test_the_output_folder_is_a_file(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    (tmp_path / "out").write_text("mine")
    outcome = process(path, out=tmp_path / "out")
    assert outcome.status == 1
    assert "is a file, not a folder" in outcome.only_error()
    outcome = process(path, out=tmp_path / "out" / "below")
    assert outcome.status == 1
    assert "file, not a folder" in outcome.only_error()
    assert (tmp_path / "out").read_text() == "mine"


def test_a_result_folder_is_a_file(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("mine")
    outcome = process(path, out=tmp_path / "out")
    assert outcome.status == 1
    assert "is a file, not a folder" in outcome.only_error()
    assert (tmp_path / "out" / "a").read_text() == "mine"


def test_what_is_in_the_output_folder_stays(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "notes.txt").write_text("mine")
    assert process(path, out=tmp_path / "out").status == 0
    assert (tmp_path / "out" / "a" / "notes.txt").read_text() == "mine"
    assert len(files_below(tmp_path / "out")) == 7


def test_a_folder_in_the_place_of_a_result(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    (tmp_path / "out" / "a" / "tokens.safetensors").mkdir(parents=True)
    outcome = process(path, out=tmp_path / "out")
    assert outcome.status == 1
    assert "tokens.safetensors cannot be written: it is a folder" in outcome.only_error()
    assert not files_below(tmp_path / "out")


def read_only_folder(tmp_path):
    if os.name != "posix":
        pytest.skip("permissions are of another kind here")
    if os.geteuid():
        place = tmp_path / "locked"
        place.mkdir(mode=0o500)
        return place
    place = Path("/sys/kernel")  # where even root makes no files
    if not place.is_dir():
        pytest.skip("root may write everywhere")
    return place


def test_the_output_folder_is_read_only(tmp_path):
    place = read_only_folder(tmp_path)
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    for command in (
        ("process", path, "--out", place / "results"),
        ("encode", path, "--out", place / "codes.safetensors"),
    ):
        outcome = run(*command, "--model", SMALL)
        assert outcome.status == 1
        assert "cannot be written" in outcome.only_error()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell's limits")
@pytest.mark.parametrize("seconds", [20.0, 0.9])
def test_the_disk_is_full(tmp_path, seconds):
    """A limit on the size of files stands for a full disk: met while audio is written, and at the end of a file."""
    path = write_wav(tmp_path / "a.wav", noise(seconds))
    limited = ("sh", "-c", 'ulimit -f 40; exec "$@"', "sh")  # in blocks of 512 or 1024 bytes
    outcome = spawn("process", path, "--out", tmp_path / "out", "--model", SMALL, prefix=limited)
    assert outcome.status == 1
    assert "cannot be written" in outcome.only_error()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device")
def test_what_is_printed_goes_to_a_full_disk():
    outcome = spawn("models", "--json", prefix=("sh", "-c", 'exec "$@" > /dev/full', "sh"))
    assert outcome.status == 1
    assert "the standard output cannot be written: the disk is full" in outcome.only_error()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 300 kB, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    if mount is None or unmount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted")
    yield place
    subprocess.run([unmount, place], check=True)


def test_the_disk_is_really_full(tmp_path, small_disk):
    small, large = write_wav(tmp_path / "a.wav", noise(0.5)), write_wav(tmp_path / "b.wav", noise(6.0))
    outcome = process(small, large, out=small_disk, options=["--sessions", "1"])
    assert outcome.status == 1
    assert any("the disk is full" in line for line in outcome.errors())
    assert files_below(small_disk) == [f"a/{name}" for name in sorted(RESULT_FILES)]
    codes = tmp_path / "codes.safetensors"
    assert run("encode", large, "--out", codes, "--model", SMALL).status == 0
    outcome = run("decode", codes, "--out", small_disk / "large.wav", "--model", SMALL)
    assert outcome.status == 1
    assert "the disk is full" in outcome.only_error()
    assert not (small_disk / "large.wav").exists()


def test_two_inputs_of_the_same_name(tmp_path):
    for folder_name, seed in (("one", 1), ("two", 2)):
        write_wav(tmp_path / folder_name / "x.wav", noise(0.3, seed=seed))
    inputs = [tmp_path / "one" / "x.wav", tmp_path / "two" / "x.wav"]
    outcome = process(*inputs, out=tmp_path / "out")
    assert outcome.status == 0
    user = [read_wav(tmp_path / "out" / name / "x" / "dialogue.wav")[:, 0] for name in ("one", "two")]
    assert not np.array_equal(*user)
    # The second by itself would take the bare name, and so would the first: it is refused, and says why.
    assert process(inputs[0], out=tmp_path / "alone").status == 0
    refused = process(inputs[1], out=tmp_path / "alone")
    assert refused.status == 1
    assert "another recording" in refused.only_error()


def wait_for(condition, process):
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


@pytest.fixture
def interruptible():
    """Children inherit whether SIGINT is ignored, as it is below a shell's background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c(tmp_path):
    write_wav(tmp_path / "in" / "a.wav", noise(0.2))
    write_wav(tmp_path / "in" / "b.wav", noise(600.0))
    out = tmp_path / "out"
    arguments = ["process", str(tmp_path / "in"), "--out", str(out), "--model", SMALL, "--sessions", "1"]
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(out.glob("b/dialogue.wav.*.part")), process)
    process.send_signal(signal.SIGINT)
    printed, complaint = process.communicate(timeout=30)
    assert process.returncode == 130
    assert complaint == "duplex: error: interrupted; run it again to go on with what is not finished\n"
    assert printed.count(" -> ") == 1
    assert files_below(out) == [f"a/{name}" for name in sorted(RESULT_FILES)]
    assert not (out / "b").exists()
    write_wav(tmp_path / "in" / "b.wav", noise(0.2, seed=1))
    outcome = run(*arguments)
    assert (outcome.status, outcome.err) == (0, "1 done, 1 skipped\n")


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_ctrl_c_in_the_codec(tmp_path, command):
    source, target = tmp_path / "source", tmp_path / "target"
    if command == "encode":
        write_wav(source, noise(1200.0))
    else:
        save_file({"codes": np.ones((4, 12 * 3600), np.int64)}, source)
    line = [*COMMAND, command, str(source), "--out", str(target), "--model", SMALL]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watched = psutil.Process(process.pid)
    wait_for(lambda: watched.cpu_times().user > 4, process)  # it has started, and is far from done
    process.send_signal(signal.SIGINT)
    printed, complaint = process.communicate(timeout=30)
    assert (process.returncode, printed) == (130, "")
    assert complaint.count("\n") == 1
    assert complaint.startswith("duplex: error: interrupted")
    assert files_below(tmp_path) == ["source"]
