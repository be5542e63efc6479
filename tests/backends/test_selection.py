"""Which backend runs a model, and what is said where one is missing."""

import logging
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError

import pytest

import duplex
from duplex.backends import mlx
from duplex.backends.selection import select_backend
from duplex.checkpoints.layout import CheckpointLayout
from duplex.checkpoints.sources import resolve_source
from duplex.errors import MissingDependencyError, UsageError


@pytest.fixture
def machine(monkeypatch):
    """Another machine, and what is installed on it."""

    def be(system, processor, installed=None):
        def version(_):
            if installed is None:
                raise PackageNotFoundError
            return installed

        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(platform, "machine", lambda: processor)
        monkeypatch.setattr(mlx, "version", version)

    return be


@pytest.mark.parametrize(
    ("system", "processor", "installed", "device", "backend", "why"),
    [
        ("linux", "x86_64", None, "auto", "torch", "no Apple silicon"),
        ("linux", "x86_64", "0.32.4", "auto", "torch", "no Apple silicon"),
        ("linux", "x86_64", "0.32.4", "cuda:1", "torch", "'cuda:1'"),
        ("darwin", "arm64", "0.32.4", "auto", "mlx", "this is Apple silicon"),
        ("darwin", "arm64", "0.32.4", "cpu", "torch", "'cpu'"),
        ("darwin", "arm64", "0.32.4", "gpu", "mlx", "'gpu'"),
        ("darwin", "arm64", None, "auto", "torch", r"only PyTorch's CPU.*pip install .*\[mlx\]'"),
        ("darwin", "arm64", "0.20.1", "auto", "torch", "0.20.1 is too old"),
        ("darwin", "x86_64", None, "auto", "torch", "no Apple silicon"),
    ],
)
def test_the_choice(machine, system, processor, installed, device, backend, why):
    machine(system, processor, installed)
    chosen = select_backend("auto", device)
    assert chosen.backend == backend
    assert re.search(why, chosen.why)


def test_what_was_asked_for(machine):
    machine("darwin", "arm64")
    assert select_backend("torch", "auto").backend == "torch"
    assert select_backend("mlx", "auto").backend == "mlx"
    with pytest.raises(UsageError, match="use 'auto', 'torch' or 'mlx'"):
        select_backend("jax", "auto")


def test_the_choice_is_told(caplog):
    with caplog.at_level(logging.INFO, "duplex"):
        duplex.load_codec("tiny", backend="torch")
    assert "backend torch: it was asked for" in caplog.text


@pytest.mark.parametrize(
    ("system", "processor", "installed", "kind", "words"),
    [
        ("linux", "x86_64", None, MissingDependencyError, r"pip install .*\[mlx\]'"),
        ("darwin", "arm64", "0.10.0", MissingDependencyError, "MLX 0.10.0 is too old, 0.29 or newer"),
        ("darwin", "x86_64", "0.32.4", UsageError, "Intel.*backend='torch'"),
    ],
)
def test_mlx_that_cannot_be_used(machine, system, processor, installed, kind, words):
    machine(system, processor, installed)
    with pytest.raises(kind, match=words):
        duplex.load("tiny", backend="mlx")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"quantize": "int2"}, "'int4', 'int8'"), ({"dtype": "float16"}, "'bfloat16'"), ({"device": "cuda"}, "'gpu'")],
)
def test_options_that_mlx_has_not(options, words):
    pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
    with pytest.raises(UsageError, match=words):
        duplex.load("tiny", backend="mlx", **options)


def test_quantized_repositories_of_old(tmp_path, small):
    """Without a config.json, and with none but quantized weights."""
    for name in ("model.q4.safetensors", "model.q8.safetensors", "model.safetensors"):
        shutil.copy(small.folder / "model.safetensors", tmp_path / name)
        _, source = resolve_source(str(tmp_path), None, progress=False)
        layout = CheckpointLayout.read(source, codec_only=False)
        assert layout.weights == name
        assert layout.language_model.dim == 4096
