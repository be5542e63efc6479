"""Weights and a past of few bits: near what they stand for, and a conversation that stays one."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from duplex.backends.torch import memory
from duplex.backends.torch.int4 import PackedInt4
from duplex.backends.torch.loading import read_language_model
from duplex.backends.torch.quantize import Quantized
from duplex.backends.torch.quantizer import Codebook
from duplex.checkpoints import checkpoint
from duplex.engine.loading import load_codec
from duplex.errors import UsageError
from duplex.testing import check_frame_model
from duplex.testing.tracks import restore

FEW_BITS = [{"quantize": "int8"}, {"quantize": "int4"}, {"cache_dtype": "int8"}]


@pytest.mark.parametrize(("kind", "error"), [("int8", 0.01), ("fp8", 0.03), ("int4", 0.12)])
def test_rounding(kind, error):
    """More outputs than are rounded at a time; the largest of a row keeps its value."""
    weight = torch.randn(5000, 128, generator=torch.Generator().manual_seed(0))
    rounded = Quantized.of(weight, kind).wide(torch.float32)
    assert (rounded - weight).norm() < error * weight.norm()
    largest = weight.abs().argmax(dim=1, keepdim=True)
    torch.testing.assert_close(rounded.gather(1, largest), weight.gather(1, largest), rtol=0.01, atol=0)


@pytest.mark.parametrize(("kind", "error"), [("int8", 0.01), ("fp8", 1e-6), ("int4", 1e-6)])
def test_products_and_parts(kind, error):
    """In int8 what is multiplied is rounded too, each row by itself."""
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(96, 128, generator=generator), torch.randn(2, 3, 128, generator=generator)
    rounded = Quantized.of(weight, kind)
    wide = x @ rounded.wide(torch.float32).T
    assert (rounded.multiply(x) - wide).norm() < error * wide.norm()
    alone = rounded.multiply(x[1, 2:3])
    torch.testing.assert_close(rounded.multiply(x)[1, 2:3], alone, rtol=1e-5, atol=1e-5)
    assert torch.equal(rounded.part(1, 3).wide(torch.float32), rounded.wide(torch.float32)[32:64])


def test_rows_of_zeros():
    for kind in ("int8", "fp8", "int4"):
        assert not Quantized.of(torch.zeros(4, 128), kind).wide(torch.float32).any()


@pytest.mark.parametrize(
    "options", [FEW_BITS[0], *(pytest.param(options, marks=pytest.mark.slow) for options in FEW_BITS[1:])]
)
def test_the_conformance_suite(small, options):
    check_frame_model(lambda capacity: small.load(sessions=capacity, **options), frames=6)


@pytest.mark.skipif(sys.platform != "linux", reason="maps are Linux's")
def test_what_was_rounded_does_not_stay_in_memory(small):
    """A tensor that is not rounded is a part of the file, all of whose pages it would keep."""
    found = checkpoint.resolve(str(small.folder))
    model = read_language_model(
        found.language_model, found.weights, dtype=torch.float32, device=torch.device("cpu"), quantize="int8"
    )
    assert next(model.parameters()).device.type == "cpu"
    assert str(found.weights) not in Path("/proc/self/maps").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", FEW_BITS)
def test_the_logits_stay_near(small, opened, greedy, options):
    """Fed the same tokens, the model thinks nearly the same."""
    thoughts = []
    for chosen in ({}, options):
        model = opened(small.load(**chosen))
        forward, heard = model._lm.forward, []

        def listen(*arguments, forward=forward, heard=heard, **keywords):
            step = forward(*arguments, **keywords)
            heard.append(step.text_logits[0].numpy().copy())
            return step

        model.steps.recorded = None  # which would not call it
        model._lm.forward = listen
        model.open(0, greedy)
        text, agent = small.expected["lm_text"], small.expected["lm_audio"]
        known = np.concatenate(
            [text[None], agent, small.expected["mimi_codes"][: model.spec.user_streams, : len(text)]]
        )
        for column in range(30):
            model.prefill(0, known[:, column : column + 1])
        thoughts.append(np.stack(heard))
    exact, near = thoughts
    error = np.linalg.norm(near - exact) / np.linalg.norm(exact)
    assert 0 < error < (0.5 if options.get("quantize") == "int4" else 0.1)


def test_a_session_moves_between_kinds(small, opened, run, sampled):
    """Exactly within one kind, rebuilt from the token log in another."""
    model = opened(small.load(cache_dtype="int8", sessions=2))
    whole = run(model, 0, sampled).hear(small.frames[:20])
    begun = run(model, 0, sampled).hear(small.frames[:9])
    state = model.export(0)
    restore(model, 1, state)
    begun.slot = 1
    assert np.array_equal(begun.hear(small.frames[9:20]).tokens, whole.tokens)
    elsewhere = opened(small.load())
    restore(elsewhere, 0, state)
    held = run(elsewhere, opened=True).hear(small.frames[9:20])
    assert held.times == whole.times[9:]


@pytest.mark.parametrize("options", [{}, *FEW_BITS, {"dtype": "bfloat16"}])
def test_memory_is_told_before_loading(small, opened, options):
    model = opened(small.load(sessions=3, **options))
    found = checkpoint.resolve(str(small.folder))
    told = memory.predict(
        found.language_model,
        found.mimi,
        dtype=model.dtype,
        device=model.device,
        sessions=3,
        quantize=options.get("quantize"),
        int8_cache="cache_dtype" in options,
    )
    state = sum(tensor.nbytes for tensor in model.state.tensors.values())
    held = sum(
        tensor.nbytes
        for module in (*model._lm.modules(), *model._mimi.modules())
        for tensor in (*module._parameters.values(), *buffers(module), *few_bits(module))
        if tensor is not None
    )
    assert told.sessions * told.session == state
    assert told.weights == pytest.approx(held, rel=0.02)


def buffers(module):
    """Return a codebook's; what is a constant of a step is small, and not told."""
    return [module.entries, module.columns, module.offsets] if isinstance(module, Codebook) else []


def few_bits(module):
    held = [value for value in vars(module).values() if isinstance(value, Quantized | PackedInt4)]
    held += [each for value in vars(module).values() if isinstance(value, tuple) for each in value]
    return [tensor for each in held if isinstance(each, Quantized | PackedInt4) for tensor in (each.data, each.scale)]


def test_more_than_there_is_is_told_before_loading(small, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda _: 190_000_000)
    with pytest.raises(UsageError, match=r"1000 sessions of this model need .* sessions=\d+ would fit"):
        small.load(sessions=1000)
    monkeypatch.setattr(memory, "available", lambda _: 1000)
    with pytest.raises(UsageError, match="choose a smaller model"):
        small.load()


def test_a_codec_in_few_bits(small):
    """Of whoever asks for it: most codes stay, and what is decoded from them stays near."""
    exact, rounded = (load_codec(str(small.folder), device="cpu", quantize=kind) for kind in (None, "int8"))
    assert any(few_bits(module) for module in rounded.mimi.modules())
    codes = exact.encode(small.expected["pcm"])
    assert (rounded.encode(small.expected["pcm"]) == codes).mean() > 0.5
    wanted, found = exact.decode(codes), rounded.decode(codes)
    assert 0 < np.linalg.norm(found - wanted) < 0.1 * np.linalg.norm(wanted)
    with pytest.raises(UsageError, match="leave quantize out"):
        load_codec(str(small.folder), backend="mlx", quantize="int8")
