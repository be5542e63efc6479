"""The command line where PyTorch is not installed: what needs no model works, the rest says how to install it."""

import importlib.util
import json
import sys

import pytest

from cli_support import run
from duplex.backends import mlx
from duplex.backends.selection import select_backend
from duplex.errors import MissingDependencyError
from duplex.extras import install_command


@pytest.fixture(autouse=True)
def no_torch(monkeypatch):
    """Hide PyTorch, and every module of ours that has imported it."""
    find_spec = importlib.util.find_spec
    hidden = lambda name, *rest: None if name.partition(".")[0] == "torch" else find_spec(name, *rest)  # noqa: E731
    for module in ("duplex.extras", "duplex.cli.doctor", "duplex.bench.machine"):
        importlib.import_module(module)
        monkeypatch.setattr(f"{module}.find_spec", hidden)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("duplex.backends.torch.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("duplex.cli.doctor._reach", lambda _: "not asked here")


@pytest.fixture
def no_mlx(monkeypatch):
    def refuse():
        raise MissingDependencyError("the MLX backend is not installed")

    monkeypatch.setattr(mlx, "require", refuse)


@pytest.mark.parametrize("arguments", [("--help",), ("models",), ("info",), ("info", "tiny", "--json")])
def test_what_needs_no_model_works(arguments):
    outcome = run(*arguments)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out


@pytest.mark.usefixtures("no_mlx")
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("process", "examples/question.wav"), "torch"),
        (("encode", "examples/question.wav", "--out", "codes.safetensors"), "torch"),
        (("train", "codec", "--data", "corpus", "--out", "run"), "train"),
        (("train", "dialogues", "--out", "dialogues"), "train"),
        (("train", "lm", "--data", "dialogues", "--out", "run"), "train"),
    ],
)
def test_what_needs_it_says_how_to_install_it(arguments, extra, tmp_path, monkeypatch, pytestconfig):
    monkeypatch.chdir(tmp_path)
    arguments = [argument.replace("examples/", f"{pytestconfig.rootpath}/examples/") for argument in arguments]
    outcome = run(*arguments)
    assert outcome.status == 1
    assert outcome.only_error().endswith(f"needs torch; install it with: {install_command(extra)}")


def test_what_is_there_runs_the_model(monkeypatch):
    """Who has installed MLX alone need not say so with every command."""
    monkeypatch.setattr(mlx, "require", lambda: None)
    for device in ("auto", "cpu"):
        assert select_backend("auto", device).backend == "mlx"
    assert select_backend("auto", "cuda").backend == "torch"


def doctor():
    outcome = run("doctor", "--json")
    return outcome.status, {check["name"]: check for check in json.loads(outcome.out)["checks"]}


@pytest.mark.usefixtures("no_mlx")
def test_the_doctor_calls_it_broken_where_nothing_else_runs_a_model():
    status, checks = doctor()
    assert status == 1
    assert checks["torch"]["state"] == "broken"
    assert checks["torch"]["mend"] == install_command("torch")
    assert [name for name, check in checks.items() if check["state"] == "broken"] == ["torch"]


def test_the_doctor_is_content_with_mlx(monkeypatch):
    monkeypatch.setattr(mlx, "require", lambda: None)
    status, checks = doctor()
    assert status == 0
    assert checks["torch"]["state"] == "note"
    assert checks["torch"]["mend"] == install_command("torch")
