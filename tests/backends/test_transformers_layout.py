"""Checkpoints of Hugging Face transformers compute what the library computes from them (``make_transformers_data``)."""

import contextlib
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from family_support import GREEDY, said
from safetensors.numpy import load_file

from duplex.backends.torch.loading import read_language_model
from duplex.backends.torch.state import Call
from duplex.checkpoints import checkpoint
from duplex.engine.loading import load_codec

DATA = Path(__file__).parents[1] / "data" / "transformers"


@pytest.fixture(params=["torch", "mlx"])
def backend(request):
    if request.param == "mlx":
        pytest.importorskip("mlx.core")
    return request.param


@pytest.mark.parametrize("name", ["mimi", "moshi"])
def test_a_codec(name, backend):
    expected = load_file(DATA / name / "expected.safetensors")
    codec = load_codec(str(DATA / name), backend=backend, device="cpu")
    assert codec.spec.codebooks == len(expected["codes"])
    np.testing.assert_array_equal(codec.encode(expected["pcm"]), expected["codes"])
    if name == "mimi":
        np.testing.assert_allclose(codec.decode(expected["codes"]), expected["decoded"], rtol=0, atol=1e-5)


def language_model():
    found = checkpoint.resolve(str(DATA / "moshi"), parts=("codec",))
    weights = DATA / "moshi" / "model.safetensors"
    assert found.language_model is not None
    return read_language_model(found.language_model, weights, dtype=torch.float32, device=torch.device("cpu"))


def test_logits_on_pytorch():
    expected = {name: torch.tensor(value) for name, value in load_file(DATA / "moshi" / "expected.safetensors").items()}
    model, tokens = language_model(), expected["tokens"]
    with torch.inference_mode():
        contexts = model.temporal(tokens[None, :, :-1], Call(None))[0]
        torch.testing.assert_close(model.text_linear(contexts), expected["text_logits"], rtol=0, atol=1e-4)
        assert model.depth is not None
        past = model.depth.begin()
        for codebook in range(3):
            logits = model.depth.logits(contexts, tokens[codebook, 1:], codebook, past)
            torch.testing.assert_close(logits, expected["audio_logits"][:, codebook], rtol=0, atol=1e-4)


def test_both_backends_say_the_same():
    pytest.importorskip("mlx.core")
    heard = load_file(DATA / "moshi" / "expected.safetensors")["codes"]
    found = checkpoint.resolve(str(DATA / "moshi"), parts=("codec",))
    told = []
    for name in ("torch", "mlx"):
        loader = importlib.import_module(f"duplex.backends.{name}")
        weights = DATA / "moshi" / "model.safetensors"
        model = loader.load_model(
            found.language_model,
            found.mimi,
            weights=weights,
            mimi_weights=weights,
            fingerprint="",
            deterministic=False,
            device="cpu",
            dtype="float32",
            quantize=None,
            cache_dtype="auto",
            sessions=1,
        )
        with contextlib.closing(model):
            model.open(0, GREEDY)
            told.append(said(model, 0, heard))
    for ours, theirs in zip(*told, strict=True):
        np.testing.assert_array_equal(ours, theirs)
