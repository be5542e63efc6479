"""The command line as its users see it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import duplex
from cli_support import (
    SMALL,
    files_below,
    noise,
    run,
    spawn,
    write_wav,
)
from duplex.cli import cli


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_help_shows_an_example(command):
    outcome = run(command, "--help")
    assert outcome.status == 0
    assert re.search(r"Examples?:\n(?:.*\n)*?\s+(?:HF_\S+ )?duplex " + command, outcome.out)
    assert max(len(line) for line in outcome.out.splitlines()) <= 100


def test_help_and_usage():
    assert run("--help").status == run("-h").status == 0
    assert all(command in run("--help").out for command in cli.commands)
    alone = run()
    assert (alone.status, alone.out) == (2, "")
    assert "Usage: duplex" in alone.err
    assert run("--version").out == f"duplex, version {duplex.__version__}\n"


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom duplex.cli import main\n"
        "try:\n    main(['process', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'av', 'rich', 'huggingface_hub', 'sentencepiece', 'mlx'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_what_libraries_warn_of_is_not_shown():
    log = "logging.getLogger('asyncio').warning('Unknown child process pid %d, will report returncode 255', 7)"
    script = f"import logging, duplex.cli; duplex.cli._prepare(debug=False); {log}"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stderr == b""


def test_the_entry_point():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["scripts"]["duplex"] == "duplex.cli:main"
    assert "Usage: duplex" in spawn("--help").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["proces"], "No such command 'proces'"),
        (["process"], "Missing argument 'IN...'"),
        (["process", "x.wav", "--tail"], "--tail"),
        (["process", "x.wav", "--tail", "-2"], "seconds from 0 to 3600"),
        (["process", "x.wav", "--temperature", "-1"], "temperature is -1.0; give a number from 0 to 100"),
        (["process", "x.wav", "--text-temperature", "nan"], "text_temperature is nan"),
        (["process", "x.wav", "--top-k", "-3"], "top_k is -3"),
        (["process", "x.wav", "--text-top-k", "many"], "--text-top-k"),
        (["process", "x.wav", "--seed", "-1"], "--seed"),
        (["process", "x.wav", "--sessions", "0"], "--sessions"),
        (["process", "x.wav", "--user-channel", "middle"], "--user-channel"),
        (["process", "x.wav", "--dtype", "float8"], "--dtype"),
        (["process", "x.wav", "--revision", "main"], "only hub repositories have revisions"),
        (["info", "tiny", "--revision", "main"], "only hub repositories have revisions"),
        (["encode"], "Missing argument 'IN'"),
        (["decode", "a", "b"], "unexpected extra argument"),
    ],
)
def test_wrong_use(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = run(*arguments)
    assert outcome.status == 2
    assert words in outcome.only_error()
    assert not outcome.out
    assert not files_below(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--device", "teapot"], 2, "'cpu'"),
        (["--device", "cuda:7"], 2, "device='cpu'"),
        (["--quantize", "fp8"], 2, "use 'int8'"),
        (["--backend", "mlx", "--device", "cuda"], 2, "'gpu'"),
    ],
)
def test_what_is_not_available(arguments, status, words, tmp_path):
    if "mlx" in arguments:
        pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    outcome = run("process", path, "--out", tmp_path / "out", "--model", SMALL, *arguments)
    assert outcome.status == status
    assert words in outcome.only_error()


def test_debug_shows_where_an_error_comes_from(tmp_path):
    outcome = run("info", tmp_path / "nothing", "--debug")
    assert outcome.status == 1
    assert "Traceback" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("duplex: error: there is no model or folder")
    assert "Traceback" in run("--debug", "process", tmp_path / "x.wav", "--out", tmp_path / "out").err


def test_an_unexpected_error_is_one_line_too(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise RuntimeError("something\nodd")

    monkeypatch.setattr("duplex.checkpoints.checkpoint.describe", fail)
    outcome = run("info")
    assert outcome.status == 1
    assert outcome.only_error() == (
        "duplex: error: unexpected RuntimeError: something odd; run again with --debug for details"
    )
    monkeypatch.setattr("duplex.process.run.run_record", fail)
    path = write_wav(tmp_path / "a.wav", noise(0.2))
    assert "run again with --debug" in run("process", path, "--out", tmp_path / "o", "--model", SMALL).only_error()
