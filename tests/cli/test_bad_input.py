"""Everything that may be wrong with what a user gives: one clear line, the right status, nothing half-written."""

import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file, save_file

from cli_support import (
    COMMAND,
    SMALL,
    files_below,
    noise,
    read_wav,
    run,
    spawn,
    tokens_of,
    write_float_wav,
    write_wav,
)
from duplex.results.files import RESULT_FILES

MIMI = "tokenizer-e351c8d8-checkpoint125.safetensors"


def process(*inputs, out, model=SMALL, options=()):
    return run("process", *inputs, "--out", out, "--model", model, *options)


# Recordings


def missing(path):
    del path


def empty(path):
    path.touch()


def folder(path):
    path.mkdir()


def text(path):
    path.write_text("dear diary\n" * 1000)


def only_a_header(path):
    path.write_bytes(write_wav(path, noise(1.0)).read_bytes()[:20])


def no_samples(path):
    write_wav(path, noise(0.0))


def not_a_number(path):
    pcm = noise(2.0)[:, 0]
    pcm[30000] = np.nan
    write_float_wav(path, pcm)


def infinite(path):
    pcm = noise(2.0)[:, 0]
    pcm[30000] = -np.inf
    write_float_wav(path, pcm)


def silent_video(path):
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def compressed(path, codec, container, channels=1, rate=48000, seconds=2.0):
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(noise(seconds, channels=channels, rate=rate).T.copy(), "fltp", layout)
        frame.sample_rate = rate
        context = stream.codec_context
        for piece in av.AudioResampler(context.format.name, layout, rate, context.frame_size or 4096).resample(frame):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return path


def truncated_m4a(path):
    path.write_bytes(compressed(path, "aac", "mp4").read_bytes()[:10000])  # without the index at its end


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing, "does not exist; check the name"),
        (empty, "is empty; record or copy it again"),
        (folder, "has no recordings in it"),
        (text, "is not a recording that can be read"),
        (only_a_header, "is not a recording that can be read, or was cut short"),
        (no_samples, "without samples"),
        (not_a_number, "NaN or infinity at 1.25 s"),
        (infinite, "NaN or infinity at 1.25 s"),
        (silent_video, "has no sound track"),
        (truncated_m4a, "was cut short"),
    ],
)
def test_a_bad_recording(tmp_path, make, words):
    bad = tmp_path / "in" / "bad.wav"
    bad.parent.mkdir()
    make(bad)
    out = tmp_path / "out"
    outcome = process(bad, out=out)
    assert outcome.status == 1
    assert words in outcome.only_error()
    assert str(bad) in outcome.only_error()
    assert not outcome.out
    assert list(out.iterdir()) == []

    target = tmp_path / "codes.safetensors"
    outcome = run("encode", bad, "--out", target, "--model", SMALL)
    assert outcome.status == 1
    assert words in outcome.only_error() or make is folder
    assert not target.exists()

    good = write_wav(tmp_path / "good.wav", noise(0.2))
    outcome = process(bad, good, out=out)
    assert outcome.status == 1
    assert words in outcome.errors()[0]
    assert files_below(out) == [f"good/{name}" for name in sorted(RESULT_FILES)]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_recording_that_may_not_be_read(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    path.chmod(0)
    outcome = process(path, out=tmp_path / "out")
    assert outcome.status == 1
    assert "may not be read" in outcome.only_error()


@pytest.mark.parametrize("name", ["wrong.mp3", "no_suffix", "letters \u00e4\u00f6\u732b.wav", "-dash.wav"])
def test_renamed_recordings_are_read(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compressed(Path(name).absolute(), "flac", "flac")
    outcome = run("process", "--out", "out", "--model", SMALL, "--", name)
    assert outcome.status == 0, outcome.err
    assert len(read_wav(next((tmp_path / "out").iterdir()) / "agent.wav")) == 25 * 1920


def test_a_name_that_is_no_text(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    try:
        shutil.copy(write_wav(tmp_path / "a.wav", noise(0.2)), path)
    except OSError:
        pytest.skip("names are text on this system")
    outcome = spawn("process", os.fsdecode(path), "--out", tmp_path / "out", "--model", SMALL)
    assert (outcome.status, outcome.err) == (0, "")
    (results,) = (tmp_path / "out").iterdir()
    assert json.loads((results / "run.json").read_text())["input"] == os.fsdecode(path)


@pytest.mark.parametrize(
    ("codec", "container"),
    [("libmp3lame", "mp3"), ("libopus", "ogg"), ("flac", "flac"), ("pcm_s16le", "wav")],
)
def test_a_truncated_recording_is_heard_up_to_its_end_and_that_is_told(tmp_path, codec, container):
    path = compressed(tmp_path / "a", codec, container, seconds=4.0)
    whole = process(path, out=tmp_path / "whole")
    assert (whole.status, whole.err) == (0, "")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    outcome = process(path, out=tmp_path / "out")
    assert outcome.status == 0
    assert outcome.err.splitlines() == [
        f"duplex: note: {path} was cut short; what is there was processed. Get the whole file"
    ]
    assert 12 <= tokens_of(tmp_path / "out" / "a")["text"].size <= 40
    assert json.loads((tmp_path / "out" / "a" / "run.json").read_text())["cut_short"] is True


@pytest.mark.parametrize(("channels", "rate"), [(7, 48000), (1, 96000), (2, 8000), (1, 44100)])
def test_unusual_sound(tmp_path, channels, rate):
    pcm = noise(0.8, channels=channels, rate=rate)
    path = write_wav(tmp_path / "a.wav", pcm, rate)
    outcome = process(path, out=tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert len(read_wav(tmp_path / "out" / "a" / "dialogue.wav")) == 10 * 1920


# Checkpoints


@pytest.fixture
def checkpoint(tmp_path):
    return Path(shutil.copytree(SMALL, tmp_path / "model"))


def configure(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def change_weights(folder, change, file="model.safetensors"):
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file)


def without_a_tensor(folder):
    change_weights(folder, lambda tensors: tensors.pop("text_linear.weight"))


def with_one_more(folder):
    change_weights(folder, lambda tensors: tensors.update({"something.extra": np.zeros(3, np.float32)}))


def misshapen(folder):
    change_weights(folder, lambda tensors: tensors.update({"text_linear.weight": np.zeros((3, 3), np.float32)}))


def codec_without_a_tensor(folder):
    change_weights(folder, lambda tensors: tensors.pop(min(tensors)), MIMI)


def truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def truncated_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def pickled(folder):
    import torch  # noqa: PLC0415 -- takes seconds

    torch.save({"a": torch.zeros(3)}, folder / "model.safetensors")


def old_pickle(folder):
    (folder / "model.safetensors").write_bytes(b"\x80\x02}q\x00." * 20)


def unknown_key(folder):
    configure(folder, quantum_layers=3)


def broken_config(folder):
    (folder / "config.json").write_text("{")


def no_tokenizer(folder):
    (folder / "tokenizer_spm.model").unlink()


def no_tokenizer_named(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["tokenizer_name"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_spm.model").unlink()


def broken_tokenizer(folder):
    (folder / "tokenizer_spm.model").write_bytes(b"nothing of the kind")


def text_past_the_tokenizer(folder):
    configure(folder, text_card=50_000)


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def no_codec(folder):
    (folder / MIMI).unlink()


def nothing(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_a_tensor, "text_linear.weight"),
        (with_one_more, "something.extra"),
        (misshapen, "text_linear.weight"),
        (codec_without_a_tensor, MIMI),
        (truncated, "cut short"),
        (truncated_header, "cut short"),
        (pickled, "pickle"),
        (old_pickle, "pickle"),
        (unknown_key, "quantum_layers"),
        (broken_config, "config.json"),
        (no_tokenizer, "tokenizer"),
        (no_tokenizer_named, "tokenizer"),
        (broken_tokenizer, "sentencepiece"),
        (text_past_the_tokenizer, "50000"),
        (no_weights, "model.safetensors"),
        (no_codec, MIMI),
        (nothing, "no model or folder"),
    ],
)
def test_a_bad_checkpoint(tmp_path, checkpoint, spoil, words):
    spoil(checkpoint)
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    outcome = process(path, out=tmp_path / "out", model=checkpoint)
    assert outcome.status == 1
    assert words in outcome.only_error()
    assert not outcome.out
    assert not files_below(tmp_path / "out")


def test_info_of_a_bad_checkpoint(checkpoint):
    truncated(checkpoint)
    outcome = run("info", checkpoint)
    assert outcome.status == 1
    assert "cut short" in outcome.only_error()


# The hub


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.server.status is None:
            self.server.over.wait(30)
            return
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 -- the library's name

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def hub(status):
    """A hub that answers everything with one status, or not at all."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.status, server.over, server.daemon_threads = status, threading.Event(), True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.over.set()
            server.shutdown()


def ask(tmp_path, endpoint, *arguments, **settings):
    quick = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    places = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home")}
    return spawn(*arguments, env={**os.environ, **quick, **places, **settings})


@pytest.mark.parametrize(
    ("status", "words"), [(401, "log in"), (403, "log in"), (503, "try again later"), (None, "try again later")]
)
def test_a_hub_that_refuses(tmp_path, status, words):
    with hub(status) as endpoint:
        outcome = ask(tmp_path, endpoint, "info", "somebody/model")
    assert outcome.status == 1
    assert words in outcome.only_error()


def test_a_hub_that_is_down(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    outcome = ask(tmp_path, endpoint, "process", path, "--model", "somebody/model", "--out", tmp_path / "out")
    assert outcome.status == 1
    assert "cannot be reached" in outcome.only_error()
    offline = ask(tmp_path, endpoint, "info", "somebody/model", HF_HUB_OFFLINE="1")
    assert offline.status == 1
    assert "HF_HUB_OFFLINE" in offline.only_error()
    checked = ask(tmp_path, endpoint, "doctor")
    assert checked.status == 0, checked.out
    assert "cannot be reached" in checked.out


# Where results go


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


# Ctrl-C


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
