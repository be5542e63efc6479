"""Kernels compute what the plain path computes: on a GPU where there is one, else by Triton's interpreter."""

import os

import numpy as np
import pytest
import torch
from torch.nn import functional

from duplex import noise
from duplex.backends.torch import kernels
from duplex.backends.torch.quantize import Quantized
from duplex.backends.torch.sampling import Counters, _choose, _words
from duplex.frame_model import ZERO

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="Triton is not installed")

from duplex.backends.torch.kernels import attention, choice, embedding, linear, pointwise
from duplex.backends.torch.kernels import noise as noise_kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def random(*shape):
    return torch.randn(*shape, device=DEVICE)


@pytest.mark.parametrize("width", [96, 256])
def test_norm(width):
    x, added, alpha = random(3, 5, width), random(3, 5, width), random(1, 1, width)
    _, normed = pointwise.norm(x, None, alpha, 1e-8)
    torch.testing.assert_close(normed, functional.rms_norm(x, (width,), alpha[0, 0], 1e-8))
    summed, normed = pointwise.norm(x, added, alpha, 1e-8)
    torch.testing.assert_close(summed, x + added)
    torch.testing.assert_close(normed, functional.rms_norm(x + added, (width,), alpha[0, 0], 1e-8))


def test_gate():
    x = random(4, 2 * 700)
    torch.testing.assert_close(pointwise.gate(x), functional.silu(x[:, :700]) * x[:, 700:])


def test_noise():
    keys = torch.tensor([noise.round_keys(2**63 + 5), noise.round_keys(7)], device=DEVICE)
    step, counters = torch.tensor([3, 100_000], device=DEVICE), Counters.of([900, 37, 512], torch.device(DEVICE))
    drawn = noise_kernel.words(keys, step, counters.streams, counters.blocks)
    assert torch.equal(drawn, _words(keys, step, counters))


@pytest.mark.parametrize("rows", [1, 3, 20, 70])
@pytest.mark.parametrize("kind", ["int8", "fp8", "int4"])
def test_products(rows, kind):
    if kind == "fp8" and DEVICE == "cuda" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("the GPU has no 8-bit floating numbers")
    weight, x = Quantized.of(random(100, 384), kind), random(rows, 384)
    product = linear.product4 if kind == "int4" else linear.product8
    torch.testing.assert_close(
        product(x, weight.data, weight.scale), x @ weight.wide(torch.float32).T, rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("rows", [1, 2])
def test_products_of_few_rows(rows):
    x, weight = random(rows, 200), random(30, 200)
    torch.testing.assert_close(linear.product(x, weight), x @ weight.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("vocabulary", [37, 300])
@pytest.mark.parametrize("limited", [False, True])
def test_choice(vocabulary, limited):
    """Each row by its own options, infinite and equal logits among them."""
    logits, drawn = random(6, vocabulary), random(6, vocabulary)
    logits[0, ::3], logits[1] = logits[0, 0], logits[1].abs().neg()
    temperature, depth = [0.0, 1.0, 0.7, 2.0, 1.0, 0.0], [3, 1, 5, 0, 20, 0] if limited else [0] * 6
    options = torch.tensor([temperature, depth], device=DEVICE).T.contiguous()
    wanted = _choose(logits.cpu(), options.cpu(), 20 if limited else 0, drawn.cpu())
    assert choice.choose(logits, options, drawn, limited=limited).tolist() == wanted.tolist()
    assert choice.choose(logits, options, None, limited=limited).tolist() == logits.argmax(dim=-1).tolist()


def test_embeddings():
    tables = [random(10, 72) for _ in range(3)]
    tokens = torch.tensor([[0, 9, 3], [4, ZERO, 5]], device=DEVICE)
    addresses = torch.tensor([table.data_ptr() for table in tables], device=DEVICE)
    wanted = tables[0][tokens[:, 0]] + tables[2][tokens[:, 2]]
    wanted[0] += tables[1][9]
    torch.testing.assert_close(embedding.sum_embedded(addresses, tokens, tables[0]), wanted)
    x = random(2, 72)
    found = embedding.add_embedded(x, tables[1], tokens[:, 1].contiguous())
    torch.testing.assert_close(found, torch.stack([x[0] + tables[1][9], x[1]]))


def rotation(first, positions, width):
    at = first[:, None] + torch.arange(positions, device=DEVICE)
    angle = at[..., None].float() * torch.exp(torch.arange(width // 2, device=DEVICE) * -0.3)
    return torch.polar(torch.ones_like(angle), angle)


def rotated(x, turns):
    """Turn ``[batch, positions, heads, width]``."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns[:, :, None]).flatten(-2)


@pytest.mark.parametrize(
    ("batch", "positions", "context", "frames", "quantized", "tolerance"),
    [
        (2, 1, 40, 60, False, 1e-5),
        (3, 2, 20, 20, False, 1e-5),
        (1, 1, 72, 88, False, 1e-5),
        (2, 1, 40, 60, True, 0.03),
    ],
)
def test_attention_over_a_ring(batch, positions, context, frames, quantized, tolerance):
    """Frame by frame, past the context, every row sees what the definition says it sees."""
    heads, width, slots = 3, 16, torch.tensor([2, 0, 3][:batch], device=DEVICE)
    cache = torch.zeros(5, 2, heads, context, width, dtype=torch.int8 if quantized else torch.float32, device=DEVICE)
    scale = torch.zeros(5, 2, heads, context, 1, device=DEVICE) if quantized else None
    at = torch.zeros(batch, dtype=torch.int64, device=DEVICE)
    keys, values = random(batch, 0, heads, width), random(batch, 0, heads, width)
    for _ in range(frames):
        projected = random(batch, positions, 3, heads, width)
        turns = rotation(at, positions, width)
        place = (cache, scale, slots, at)
        query = attention.store(projected, torch.view_as_real(turns).flatten(-2).contiguous(), *place)
        found = attention.attend(query, *place, context=context, per_frame=positions)
        torch.testing.assert_close(query, rotated(projected[:, :, 0], turns), rtol=1e-4, atol=1e-5)
        keys = torch.cat([keys, rotated(projected[:, :, 1], turns)], dim=1)
        values = torch.cat([values, projected[:, :, 2]], dim=1)
        end, first = keys.shape[1], max(0, keys.shape[1] - context)
        for position in range(positions):
            last = end - positions + position + 1
            wanted = functional.scaled_dot_product_attention(
                query[:, position, :, None],
                keys[:, first:last].transpose(1, 2),
                values[:, first:last].transpose(1, 2),
            )
            torch.testing.assert_close(found[:, position], wanted.flatten(1), rtol=0, atol=tolerance)
        at = at + positions


def test_attention_over_a_short_past():
    past = torch.full((2, 8, 2, 3, 16), float("nan"), device=DEVICE)
    projected = random(8, 2, 3, 3, 16)
    for step in range(8):
        found = attention.attend_few(projected[step], past, step)
        query, keys, values = projected[: step + 1].permute(2, 1, 3, 0, 4)
        wanted = functional.scaled_dot_product_attention(query[:, :, -1:], keys, values)
        torch.testing.assert_close(found, wanted.flatten(1))


@pytest.mark.skipif(DEVICE == "cuda", reason="test_cuda.py does this on the GPU itself")
def test_a_whole_step(small, opened, run, greedy, monkeypatch):
    monkeypatch.setattr(kernels, "apply_to", lambda _: True)
    monkeypatch.setattr(linear, "MOST_FEW", 0)  # which the interpreter takes minutes for
    held = run(opened(small.load()), options=greedy).hear(small.frames[:2])
    assert np.array_equal(held.text, small.expected["lm_text"][:2])
    assert np.array_equal(np.array(held.agent).T, small.expected["lm_audio"][:, :2])
    np.testing.assert_allclose(np.concatenate(held.pcm), small.expected["agent_pcm"][: 2 * 1920], atol=1e-3)
