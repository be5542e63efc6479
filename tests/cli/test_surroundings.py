"""The command where something is missing that is usually there: streams, a home, short names."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from safetensors.numpy import save_file

from cli_support import COMMAND, SMALL, files_below, noise, run, spawn, write_wav
from duplex.results.files import RESULT_FILES

ORDINARY_USER = 54321
posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")


def shell(command, *arguments, env=None):
    """Run ``duplex ARGUMENTS`` as a shell does, with what ``command`` says of its streams."""
    line = ["sh", "-c", f'"$@" {command}', "sh", *COMMAND, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, env=env)


@posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path, closed):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    done = shell(closed, "process", path, "--out", tmp_path / "out", "--model", SMALL)
    assert (done.returncode, done.stderr) == (0, "")
    assert files_below(tmp_path / "out") == [f"a/{name}" for name in sorted(RESULT_FILES)]
    assert (tmp_path / "out" / "a" / "agent.wav").read_bytes().startswith(b"RIFF")
    done = shell(closed, "process", tmp_path / "missing.wav", "--out", tmp_path / "out", "--model", SMALL)
    assert done.returncode == 1
    assert "does not exist" in done.stderr or "2>&-" in closed
    assert shell(closed, "models").returncode == 0


@posix
def test_a_recording_from_nowhere(tmp_path):
    for nothing in ("<&-", "</dev/null"):
        done = shell(nothing, "process", "-", "--out", tmp_path / "out", "--model", SMALL)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "a device; save the audio to a file first, or give it through a pipe" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_a_user_without_a_home_or_an_entry_in_the_list_of_users(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    (tmp_path / "work").mkdir()
    (tmp_path / "work").chmod(0o777)
    kept = {name: value for name, value in os.environ.items() if name not in {"HOME", "USER", "LOGNAME"}}
    kept = {name: value for name, value in kept.items() if not name.startswith(("HF_", "XDG_"))}
    rights = "+dac_override,+dac_read_search"  # the interpreter may lie where only root may look
    user = ["setpriv", f"--reuid={ORDINARY_USER}", "--clear-groups", f"--inh-caps={rights}", f"--ambient-caps={rights}"]

    def as_nobody(*arguments):
        return spawn(*arguments, prefix=user, env=kept, cwd=tmp_path / "work")

    if as_nobody("--version").status:
        pytest.skip("capabilities cannot be handed on here")
    done = as_nobody("process", path, "--out", "out", "--model", SMALL)
    assert (done.status, done.err) == (0, "")
    assert as_nobody("models").status == 0
    assert "unexpected" not in as_nobody("doctor").out
    assert "set HF_HOME" in as_nobody("info", "kyutai/moshika-pytorch-bf16").only_error()
    assert "set HOME" in as_nobody("serve", "--tls", "--port", "0", "--model", SMALL).only_error()
    assert os.listdir(tmp_path / "work") == ["out"], "a folder called ~ is not a home"  # noqa: PTH208


@posix
@pytest.mark.parametrize("name", ["a" * 255, "a" * 251 + ".wav", "\u00e9" * 125 + "a.wav"])
def test_names_as_long_as_can_be(tmp_path, name):
    path = write_wav(tmp_path / "a.wav", noise(0.2)).rename(tmp_path / name)
    outcome = run("process", path, "--out", tmp_path / "out", "--model", SMALL)
    assert (outcome.status, outcome.err) == (0, "")
    codes = tmp_path / ("c" * 243 + ".safetensors")
    assert run("encode", path, "--out", codes, "--model", SMALL).status == 0
    assert run("decode", codes, "--out", tmp_path / ("d" * 255), "--model", SMALL).status == 0
    assert (tmp_path / ("d" * 255)).read_bytes().startswith(b"RIFF")


@posix
@pytest.mark.parametrize(
    "arguments",
    [
        ("process", "{}"),
        ("process", "{}/a.wav"),
        ("process", "a.wav", "--out", "{}"),
        ("encode", "{}"),
        ("encode", "a.wav", "--out", "{}"),
        ("decode", "{}"),
        ("plot", "{}"),
        ("info", "{}"),
        ("convert", SMALL, "{}"),
    ],
)
def test_names_that_are_too_long(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "a.wav", noise(0.2))
    outcome = run(*(argument.format("a" * 300) for argument in arguments))
    assert outcome.status in {1, 2}
    assert "unexpected" not in outcome.only_error()


def transformers_config(folder):
    config = {"architectures": ["MoshiForConditionalGeneration"], "model_type": "moshi", "depth_decoder_config": {}}
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 64, "num_hidden_layers": 2}))


def transformers_weights(folder):
    names = ["decoder.model.embed_tokens.weight", "decoder.model.layers.0.self_attn.q_proj.linear.weight"]
    save_file({name: np.zeros((4, 4), np.float32) for name in names}, folder / "model.safetensors")


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("change", [transformers_config, transformers_weights])
def test_the_layout_of_transformers(tmp_path, change, backend):
    if backend == "mlx":
        pytest.importorskip("mlx.core")
    folder = tmp_path / "model"
    shutil.copytree(SMALL, folder)
    change(folder)
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    outcome = run("process", path, "--out", tmp_path / "out", "--model", folder, "--backend", backend)
    assert outcome.status == 1
    assert "Hugging Face transformers" in outcome.only_error()
    assert "kyutai/moshika-pytorch-bf16" in outcome.only_error()
    assert run("convert", folder, tmp_path / "other", "--layout", "mlx").status == 1
