"""What the commands do, compared with the original, and on a terminal."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import duplex
from cli_support import (
    COMMAND,
    DELAY2,
    RATE,
    REFERENCE,
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
from duplex.checkpoints import checkpoint
from duplex.results.files import RESULT_FILES

SAMPLE = 1 / 32768
"""One step of 16-bit sound."""


def expected(name):
    return load_file(REFERENCE / name / "expected.safetensors")


def as_file(pcm):
    """What a 16-bit file keeps of float sound."""
    return np.clip(pcm, -1, 1 - SAMPLE) * 32768


@pytest.mark.parametrize("name", ["small", "delay2"])
def test_encode_equals_the_original(name, tmp_path):
    wanted = expected(name)
    path = write_float_wav(tmp_path / "user.wav", wanted["pcm"])
    codes = tmp_path / "codes.safetensors"
    model = str(REFERENCE / name)
    outcome = run("encode", path, "--out", codes, "--model", model)
    assert (outcome.status, outcome.err) == (0, "")
    assert f"{wanted['mimi_codes'].shape[1]} frames" in outcome.out
    written = load_file(codes)
    assert list(written) == ["codes"]
    assert written["codes"].dtype == np.int64
    assert np.array_equal(written["codes"], wanted["mimi_codes"])

    outcome = run("decode", codes, "--out", tmp_path / "decoded.wav", "--model", model)
    assert (outcome.status, outcome.err) == (0, "")
    sound = read_wav(tmp_path / "decoded.wav")[:, 0]
    assert np.abs(sound - as_file(wanted["mimi_pcm"])).max() * SAMPLE <= 1e-4 + SAMPLE


@pytest.mark.parametrize("name", ["small", "delay2"])
def test_process_equals_the_original(name, tmp_path):
    wanted = expected(name)
    path = write_float_wav(tmp_path / "user.wav", wanted["pcm"])
    outcome = run("process", path, "--out", tmp_path / "out", "--greedy", "--model", REFERENCE / name)
    assert (outcome.status, outcome.err) == (0, "")
    folder = tmp_path / "out" / "user"
    tokens = tokens_of(folder)
    frames = wanted["mimi_codes"].shape[1]
    # With delays of two frames the original's last column needs one more frame of input; here silence gives it.
    columns = wanted["lm_text"].shape[0]
    assert tokens["text"].shape == (frames,)
    assert np.array_equal(tokens["text"][:columns], wanted["lm_text"])
    assert np.array_equal(tokens["agent"][:, :columns], wanted["lm_audio"])
    assert np.array_equal(tokens["user"], wanted["mimi_codes"][: len(tokens["user"])])
    agent = read_wav(folder / "agent.wav")[:, 0]
    assert len(agent) == len(wanted["pcm"])
    difference = np.abs(agent[: len(wanted["agent_pcm"])] - as_file(wanted["agent_pcm"]))
    assert difference.max() * SAMPLE <= 1e-3 + SAMPLE
    user = read_wav(folder / "dialogue.wav")[:, 0]
    assert np.abs(user - as_file(wanted["pcm"])).max() <= 1


def test_process_tells_what_it_did(tmp_path):
    write_wav(tmp_path / "in" / "a.wav", noise(0.5))
    write_wav(tmp_path / "in" / "deep" / "b.wav", noise(0.3))
    arguments = ("process", tmp_path / "in", "--out", tmp_path / "out", "--model", SMALL, "--text-temperature", "1.5")
    outcome = run(*arguments, "--top-k", "0", "--text-top-k", "0", "--seed", "3")
    assert outcome.status == 0
    assert outcome.err == "2 done\n"
    for name in ("a", "deep/b"):
        folder = tmp_path / "out" / name
        text = json.loads((folder / "transcript.json").read_text())["text"]
        assert f"{tmp_path / 'in' / name}.wav -> {folder}\n" in outcome.out
        assert all(piece.isprintable() for piece in outcome.out.splitlines())
        assert len(outcome.out) > len(text)
    assert len(re.findall(r"^  agent: \S", outcome.out, re.MULTILINE)) == 2
    assert len(re.findall(r"^  0\.\d\d s of audio, real-time factor \d+\.\d\d$", outcome.out, re.MULTILINE)) == 2
    run_file = json.loads((tmp_path / "out/a/run.json").read_text())
    assert run_file["seed"] == 3
    assert run_file["options"]["text_temperature"] == 1.5
    assert run_file["options"]["dtype"] == "auto"

    again = run(*arguments, "--top-k", "0", "--text-top-k", "0", "--seed", "3")
    assert (again.status, again.err) == (0, "2 skipped\n")
    assert again.out.count("(finished before)") == 2
    assert run(*arguments, "--seed", "4").err == "2 done\n"
    assert run(*arguments, "--seed", "4", "--force").err == "2 done\n"


def test_what_is_finished_needs_no_model(tmp_path, monkeypatch):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    assert run("process", path, "--out", tmp_path / "out", "--model", SMALL).status == 0

    def fail(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(duplex, "load", fail)
    assert run("process", path, "--out", tmp_path / "out", "--model", SMALL).status == 0
    assert run("process", tmp_path / "missing.wav", "--out", tmp_path / "out", "--model", SMALL).status == 1


def test_what_is_told_is_what_is_loaded(tmp_path, monkeypatch):
    """The branch may move between the plan and the load: the commit is loaded."""
    path, found = write_wav(tmp_path / "a.wav", noise(0.2)), checkpoint.resolve(SMALL)
    monkeypatch.setattr(checkpoint, "resolve", lambda *_, **__: attrs.evolve(found, revision="c0ffee"))
    asked, load = [], duplex.load

    def loading(*arguments, revision, **options):
        asked.append(revision)
        return load(*arguments, **options)

    monkeypatch.setattr(duplex, "load", loading)
    assert run("process", path, "--out", tmp_path / "out", "--model", SMALL, "--revision", "main").status == 0
    assert asked == ["c0ffee"]
    assert json.loads((tmp_path / "out" / "a" / "run.json").read_text())["revision"] == "c0ffee"


@pytest.mark.parametrize("options", [["--device", "teapot"], ["--quantize", "fp8"]])
def test_a_wrong_choice_is_told_before_anything_is_downloaded(options, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("something was looked for")

    monkeypatch.setattr(checkpoint, "resolve", fail)
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    assert run("process", path, "--out", tmp_path / "out", *options).status == 2
    assert not files_below(tmp_path / "out")


def test_defaults_work(tmp_path, monkeypatch):
    write_wav(tmp_path / "a.wav", noise(0.2))
    monkeypatch.chdir(tmp_path)
    assert run("process", "a.wav").status == 0
    assert sorted(path.name for path in Path("out/a").iterdir()) == sorted(RESULT_FILES)
    assert run("encode", "a.wav").status == 0
    assert load_file("a.safetensors")["codes"].shape == (8, 3)
    assert run("decode", "a.safetensors").status == 0
    assert len(read_wav(Path("a.decoded.wav"))) == 3 * 1920
    # A name that nobody gave replaces nothing.
    for command in (["encode", "a.wav"], ["decode", "a.safetensors"]):
        outcome = run(*command)
        assert outcome.status == 2
        assert "--out" in outcome.only_error()


def test_encode_takes_a_channel_and_any_length(tmp_path):
    pcm = noise(3.01, channels=2)
    path = write_wav(tmp_path / "a.wav", pcm)
    left = write_wav(tmp_path / "left.wav", pcm[:, 0])
    for source, out, channel in ((path, "a", "left"), (left, "b", "mix"), (path, "c", "mix")):
        arguments = ("--out", tmp_path / out, "--user-channel", channel, "--model", SMALL)
        assert run("encode", source, *arguments).status == 0
    codes = {name: load_file(tmp_path / name)["codes"] for name in "abc"}
    assert codes["a"].shape == (4, 38)
    assert np.array_equal(codes["a"], codes["b"])
    assert not np.array_equal(codes["a"], codes["c"])
    assert run("decode", tmp_path / "a", "--out", tmp_path / "a-decoded.wav", "--model", SMALL).status == 0
    assert len(read_wav(tmp_path / "a-decoded.wav")) == 38 * 1920


def test_models():
    outcome = run("models")
    assert outcome.status == 0
    assert "tiny  (built in)" in outcome.out
    rows = json.loads(run("models", "--json").out)
    assert {"name", "kind", "note"} == set(rows[0])
    assert rows[0]["name"] == "tiny"
    assert "kyutai/moshika-pytorch-bf16" in {row["name"] for row in rows}


def test_models_lists_the_cache(tmp_path):
    snapshot = tmp_path / "hub" / "models--somebody--talker" / "snapshots" / ("1" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "tokenizer-e351c8d8-checkpoint125.safetensors").touch()
    other = tmp_path / "hub" / "models--somebody--painter" / "snapshots" / ("1" * 40)
    other.mkdir(parents=True)
    outcome = spawn("models", "--json", env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    rows = [row for row in json.loads(outcome.out) if row["kind"] == "cached"]
    assert [row["name"] for row in rows] == ["somebody/talker"]


def test_info():
    outcome = run("info", "tiny")
    assert (outcome.status, outcome.err) == (0, "")
    note = json.loads(run("info", "tiny", "--json").out)["note"]
    assert note
    assert " ".join(note.split()) in outcome.out
    for words in ("temporal transformer", "depth transformer", "codec", "24000 Hz", "temperature 0, top-k 250"):
        assert words in outcome.out
    described = json.loads(run("info", DELAY2, "--json").out)
    assert described["kind"] == "folder"
    assert max(described["model"]["delays"]) == 2
    codec = described["codec"]
    bits = np.log2(codec["codebook_size"]) * codec["codebooks_used"] * codec["frame_rate"]
    assert codec["bits_per_second"] == pytest.approx(bits)
    assert f"{bits / 1000:.3g} kbit/s" in run("info", DELAY2).out
    assert run("info", DELAY2).status == 0


def test_info_tells_memory():
    kinds = json.loads(run("info", SMALL, "--sessions", 4, "--json").out)["memory"]
    assert [kind["how"] for kind in kinds[:3]] == ["dtype='float32'", "dtype='bfloat16'", "quantize='int8'"]
    for kind in kinds:
        assert kind["sessions"] == 4
        assert kind["total_bytes"] >= kind["weights_bytes"] + 4 * kind["session_bytes"]
    assert kinds[0]["weights_bytes"] > kinds[1]["weights_bytes"] > 0
    assert "memory, quantize='int4' and cache_dtype='int8'" in run("info", SMALL).out
    assert len(json.loads(run("info", SMALL, "--backend", "mlx", "--json").out)["memory"]) == 3


def test_info_of_a_codec_alone(tmp_path):
    for file in ("tokenizer-e351c8d8-checkpoint125.safetensors", "mimi_config.json"):
        (tmp_path / file).write_bytes((Path(SMALL) / file).read_bytes())
    outcome = run("info", tmp_path)
    assert outcome.status == 0
    assert "this is a codec alone" in outcome.out


def test_doctor():
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    outcome = spawn("doctor", "--json", env=offline)
    assert outcome.status == 0, outcome.err
    found = json.loads(outcome.out)
    checks = {check["name"]: check for check in found["checks"]}
    assert found["ok"]
    assert {"python", "torch", "numpy", "gpu", "ffmpeg", "machine", "cache", "hub", "built-in model"} <= set(checks)
    assert checks["hub"]["state"] == "note"
    assert "cores" in checks["machine"]["found"]
    assert all(check["mend"] for check in found["checks"] if check["state"] == "broken")


def test_doctor_says_what_is_broken(monkeypatch):
    def missing(name):
        raise ImportError(f"lib{name}.so: cannot open shared object file")

    monkeypatch.setattr("duplex.cli.doctor._ffmpeg", lambda: missing("av"))
    monkeypatch.setattr("duplex.cli.doctor._reach", lambda _: "no answer within 5 s")
    outcome = run("doctor")
    assert outcome.status == 1
    assert re.search(r"BROKEN ffmpeg .*libav\.so", outcome.out)
    assert "-> pip install" in outcome.out
    assert re.search(r"note   hub .*no answer", outcome.out)
    assert outcome.out.splitlines()[-1].startswith("mend what is marked BROKEN")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_bars_on_a_terminal_leave_standard_output_clean(tmp_path):
    import pty  # noqa: PLC0415 -- not on Windows

    write_wav(tmp_path / "in" / "a.wav", noise(2.0))
    write_wav(tmp_path / "in" / "b.wav", noise(1.0))
    ours, theirs = pty.openpty()
    line = [*COMMAND, "process", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", SMALL]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        drawn = b""
        try:
            while piece := os.read(ours, 65536):
                drawn += piece
        except OSError:  # Linux's word for the end
            pass
        out = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0
    assert "\x1b" not in out
    assert out.count(" -> ") == 2
    shown = drawn.decode()
    assert "total" in shown
    assert "a.wav" in shown
    assert "b.wav" in shown


def test_a_reader_that_stops_reading():
    with subprocess.Popen([*COMMAND, "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_odd_codes(tmp_path):
    cases = {
        "float": ({"codes": np.zeros((4, 3), np.float32)}, "not whole numbers"),
        "flat": ({"codes": np.zeros(4, np.int64)}, "not whole numbers"),
        "none": ({"codes": np.zeros((4, 0), np.int64)}, "no frames"),
        "books": ({"codes": np.zeros((3, 5), np.int64)}, "3 codebooks, the model 4"),
        "large": ({"codes": np.full((4, 5), 5000)}, "5000"),
        "negative": ({"codes": np.full((4, 5), -1)}, "-1"),
        "other": ({"tokens": np.zeros((4, 5), np.int64)}, "no tensor 'codes' (it has: tokens)"),
    }
    for name, (tensors, words) in cases.items():
        save_file(tensors, tmp_path / name)
        outcome = run("decode", tmp_path / name, "--out", tmp_path / "x.wav", "--model", SMALL)
        assert outcome.status == 1
        assert words in outcome.only_error()
    (tmp_path / "text").write_text("not codes")
    (tmp_path / "cut").write_bytes((tmp_path / "large").read_bytes()[:-8])
    for name in ("text", "cut", "missing", "."):
        outcome = run("decode", tmp_path / name, "--out", tmp_path / "x.wav", "--model", SMALL)
        assert outcome.status == 1
        assert outcome.only_error()
    same = run("decode", tmp_path / "large", "--out", tmp_path / "large", "--model", SMALL)
    assert same.status == 2
    assert "--out" in same.only_error()
    assert files_below(tmp_path) == sorted([*cases, "text", "cut"])
    # Small whole numbers of another type are codes too.
    save_file({"codes": np.ones((4, 2), np.int16)}, tmp_path / "short")
    assert run("decode", tmp_path / "short", "--out", tmp_path / "x.wav", "--model", SMALL).status == 0
    assert len(read_wav(tmp_path / "x.wav")) / RATE == pytest.approx(0.16)
