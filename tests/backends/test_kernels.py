"""Kernels compute what the plain path computes: on a GPU where there is one, else by Triton's interpreter."""

import copy
import os

import attrs
import numpy as np
import pytest
import torch
from torch.nn import functional

from duplex.backends.shared import noise
from duplex.backends.torch import kernels
from duplex.backends.torch.conv import CausalConv1d, CausalConvTranspose1d
from duplex.backends.torch.fusion import Fusion
from duplex.backends.torch.linear import linear
from duplex.backends.torch.norm import LayerNorm, RmsNorm
from duplex.backends.torch.quantize import Quantized
from duplex.backends.torch.quantizer import Codebook
from duplex.backends.torch.sampling import Counters, _sample, gumbel
from duplex.backends.torch.state import Call, Rows, SlotState, bind
from duplex.frame_model import ZERO

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="Triton is not installed")

from duplex.backends.torch.kernels import (
    attention,
    codebooks,
    depth_attention,
    elementwise,
    embedding,
    gemm,
    gemv,
    sampling,
)
from duplex.backends.torch.kernels import noise as noise_kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def random(*shape):
    return torch.randn(*shape, device=DEVICE)


@pytest.mark.parametrize("width", [96, 256])
def test_norm(width):
    x, alpha = random(3, 5, width), random(1, 1, width)
    torch.testing.assert_close(elementwise.norm(x, alpha, 1e-8), functional.rms_norm(x, (width,), alpha[0, 0], 1e-8))


def test_gate():
    x = random(4, 2 * 700)
    torch.testing.assert_close(elementwise.gate(x), functional.silu(x[:, :700]) * x[:, 700:])


def test_noise():
    keys = torch.tensor([noise.round_keys(2**63 + 5), noise.round_keys(7)], device=DEVICE)
    step, counters = torch.tensor([3, 100_000], device=DEVICE), Counters.of([900, 37, 512], torch.device(DEVICE))
    drawn = noise_kernel.gumbel(keys, step, counters.streams, counters.blocks)
    wanted = torch.cat(gumbel(keys, step, counters), dim=1)
    starts = [0, 900, 900 + 40]
    found = [drawn[:, start : start + size] for start, size in zip(starts, counters.sizes, strict=True)]
    torch.testing.assert_close(torch.cat(found, dim=1), wanted, rtol=1e-6, atol=1e-6)


def weight_of(kind, outs, width):
    if kind == "fp8" and DEVICE == "cuda" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("the GPU has no 8-bit floating numbers")
    weight = random(outs, width) / width**0.5
    return weight if kind == "float" else Quantized.of(weight, kind)


def wide(weight):
    return weight if isinstance(weight, torch.Tensor) else weight.wide(torch.float32)


@pytest.mark.parametrize("kind", ["int8", "fp8", "int4"])
@pytest.mark.parametrize("rows", [3, 70])
def test_products(rows, kind):
    weight, x, onto = weight_of(kind, 100, 384), random(rows, 384), random(rows, 100)
    torch.testing.assert_close(gemm.product(x, weight), x @ wide(weight).T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gemm.product(x, weight, onto), x @ wide(weight).T + onto, rtol=1e-4, atol=1e-4)


NORMS = {"none": None, "rms": RmsNorm(192), "layer": LayerNorm(192)}


@pytest.mark.parametrize("kind", ["float", "int8", "int4"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("rows", "after"), [(1, "gate"), (2, "gate"), (1, "gelu"), (2, "scale"), (2, "bias")])
def test_products_of_few_rows(rows, kind, norm, after):
    weight, x = weight_of(kind, 60, 192), random(rows, 192)
    norms = copy.deepcopy(NORMS[norm])
    if norms is not None:
        norms = norms.to(DEVICE).requires_grad_(requires_grad=False)
        for parameter in norms.parameters():
            parameter.normal_(1, 0.3)
    fusion = Fusion(
        norm=norms,
        activation=after if after in ("gate", "gelu") else None,
        scale=random(60) if after == "scale" else None,
        onto=random(rows, 30 if after == "gate" else 60),
    )
    bias = random(60) if after == "bias" else None
    product = functional.linear(x if norms is None else norms(x), wide(weight), bias)
    torch.testing.assert_close(gemv.product(x, weight, bias, fusion), fusion.epilogue(product), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["float", "int8", "fp8", "int4"])
@pytest.mark.parametrize(("rows", "after"), [(1, "gate"), (3, "gate"), (3, "onto"), (40, "onto"), (3, "scale")])
def test_products_and_what_is_around_them(rows, kind, dtype, after, monkeypatch):
    """Few rows and more, as a layer asks for them, rounded as its dtype has it."""
    if DEVICE == "cpu" and dtype == torch.bfloat16 and kind != "float" and rows > gemv.MOST:
        pytest.skip("the interpreter's products of matrices are wrong in bfloat16")
    weight, x = weight_of(kind, 64, 192), random(rows, 192).to(dtype)
    weight = weight.to(dtype) if isinstance(weight, torch.Tensor) else weight
    norm = RmsNorm(192).to(DEVICE, dtype).requires_grad_(requires_grad=False)
    fusion = Fusion(
        norm=norm,
        activation="gate" if after == "gate" else None,
        scale=random(64).to(dtype) if after == "scale" else None,
        onto=None if after == "gate" else random(rows, 64).to(dtype),
    )
    again = fusion if fusion.onto is None else attrs.evolve(fusion, onto=fusion.onto.clone())  # which is used up
    wanted = linear(x, wide(weight).to(dtype), fusion=fusion)
    monkeypatch.setattr(kernels, "apply_to", lambda _: True)
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(linear(x, weight, fusion=again), wanted, rtol=tolerance, atol=tolerance)


def test_numbers_that_are_none_choose_something_that_exists():
    nothing = torch.full((1, 96), float("nan"), device=DEVICE)
    options = torch.tensor([[0.8, 5.0]], device=DEVICE)
    assert 0 <= int(sampling.sample(nothing, options, random(1, 96))) < 96
    codebook = Codebook(40, 20).to(DEVICE)
    codebook.prepare()
    found = codebooks.nearest(nothing[:, :20].contiguous(), [codebook.entries], [codebook.offsets])
    assert found.tolist() == [[0]]


@pytest.mark.parametrize("vocabulary", [37, 300])
@pytest.mark.parametrize("limited", [False, True])
def test_choice(vocabulary, limited):
    """Each row by its own options, infinite and equal logits among them."""
    logits, drawn = random(6, vocabulary), random(6, vocabulary)
    logits[0, ::3], logits[1] = logits[0, 0], logits[1].abs().neg()
    temperature, depth = [0.0, 1.0, 0.7, 2.0, 1.0, 0.0], [3, 1, 5, 0, 20, 0] if limited else [0] * 6
    options = torch.tensor([temperature, depth], device=DEVICE).T.contiguous()
    wanted = _sample(logits.cpu(), options.cpu(), 20 if limited else 0, drawn.cpu())
    assert sampling.sample(logits, options, drawn).tolist() == wanted.tolist()
    assert sampling.sample(logits, options, None).tolist() == logits.argmax(dim=-1).tolist()


def test_embeddings():
    tables = [random(10, 72) for _ in range(3)]
    tokens = torch.tensor([[0, 9, 3], [4, ZERO, 5]], device=DEVICE)
    wanted = tables[0][tokens[:, 0]] + tables[2][tokens[:, 2]]
    wanted[0] += tables[1][9]
    torch.testing.assert_close(embedding.sum_embedded(tables, tokens), wanted)
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
    ("batch", "positions", "context", "frames", "quantized", "repeat", "tolerance"),
    [
        (1, 2, 20, 14, False, 3, 1e-5),
        (2, 1, 40, 60, False, 1, 1e-5),
        (3, 2, 20, 20, False, 1, 1e-5),
        (1, 1, 72, 88, False, 1, 1e-5),
        (2, 1, 40, 60, True, 1, 0.03),
        (2, 1, 12, 16, True, 2, 0.03),
    ],
)
def test_attention_over_a_ring(batch, positions, context, frames, quantized, repeat, tolerance):
    """Frame by frame, past the context, every row sees what the definition says it sees."""
    shared, width, slots = 3, 16, torch.tensor([2, 0, 3][:batch], device=DEVICE)
    heads = shared * repeat
    cache = torch.zeros(5, 2, shared, context, width, dtype=torch.int8 if quantized else torch.float32, device=DEVICE)
    scale = torch.zeros(5, 2, shared, context, 1, device=DEVICE) if quantized else None
    at = torch.zeros(batch, dtype=torch.int64, device=DEVICE)
    arrived = torch.zeros(batch * positions * heads, dtype=torch.int32, device=DEVICE)
    keys, values = random(batch, 0, shared, width), random(batch, 0, shared, width)
    for _ in range(frames):
        projected = random(batch, positions, heads + 2 * shared, width)
        turns = rotation(at, positions, width)
        turned = torch.view_as_real(turns).flatten(-2).contiguous()
        found = attention.attend(projected, turned, cache, scale, slots, at, arrived, context=context)
        assert not arrived.any()
        query = rotated(projected[:, :, :heads], turns)
        keys = torch.cat([keys, rotated(projected[:, :, heads:-shared], turns)], dim=1)
        values = torch.cat([values, projected[:, :, -shared:]], dim=1)
        end, first = keys.shape[1], max(0, keys.shape[1] - context)
        for position in range(positions):
            last = end - positions + position + 1
            wanted = functional.scaled_dot_product_attention(
                query[:, position, :, None],
                keys[:, first:last].transpose(1, 2).repeat_interleave(repeat, dim=1),
                values[:, first:last].transpose(1, 2).repeat_interleave(repeat, dim=1),
            )
            torch.testing.assert_close(found[:, position], wanted.flatten(1), rtol=0, atol=tolerance)
        at = at + positions


def test_attention_over_a_short_past():
    past = torch.full((2, 8, 2, 3, 16), float("nan"), device=DEVICE)
    projected = random(8, 2, 3, 3, 16)
    for step in range(8):
        found = depth_attention.attend_depth(projected[step], past, step)
        query, keys, values = projected[: step + 1].permute(2, 1, 3, 0, 4)
        wanted = functional.scaled_dot_product_attention(query[:, :, -1:], keys, values)
        torch.testing.assert_close(found, wanted.flatten(1))


@pytest.mark.parametrize("count", [1, 3])
def test_codes(count):
    """Two rows through a chain of codebooks whose size no number of programs divides, one entry there twice."""
    chain = [Codebook(150, 20).to(DEVICE) for _ in range(count)]
    for codebook in chain:
        codebook.embedding_sum.copy_(random(150, 20))
        codebook.embedding_sum[7] = codebook.embedding_sum[100]
        codebook.prepare()
    x, wanted = random(2, 20), []
    x[1] = left = chain[0].entries[100] + sum(0.1 * codebook.entries[3] for codebook in chain[1:])
    left = x
    for codebook in chain:
        wanted.append(codebook.encode(left))
        left = left - codebook.decode(wanted[-1])
    found = codebooks.nearest(x, [each.entries for each in chain], [each.offsets for each in chain])
    assert torch.equal(found, torch.stack(wanted, dim=1))
    assert found[1, 0] == 7


@pytest.mark.parametrize(
    ("make", "positions"),
    [
        (lambda: CausalConv1d(5, 3, 7), 40),
        (lambda: CausalConv1d(5, 3, 7), 2),
        (lambda: CausalConv1d(6, 8, 3, dilation=2), 9),
        (lambda: CausalConv1d(400, 3, 8, stride=4), 12),
        (lambda: CausalConvTranspose1d(6, 4, 5), 3),
    ],
)
@pytest.mark.parametrize("activated", [False, True])
def test_convolutions(make, positions, activated, monkeypatch):
    """Three calls, some slots each: what comes out and what is remembered is what the plain path says."""
    convolution = make().to(DEVICE).requires_grad_(requires_grad=False)
    convolution.narrows = False
    declared, found = bind(convolution, "it"), []
    heard = random(3, 2, positions, convolution.channels)
    for by_kernels in (False, True):
        monkeypatch.setattr(kernels, "apply_to", lambda _, fast=by_kernels: fast)
        state = SlotState.allocate(declared, 4, dtype=torch.float32, device=torch.device(DEVICE))
        for x, slots in zip(heard, ([1, 3], [0, 3], [1, 3]), strict=True):
            call = Call(state, Rows(torch.tensor(slots, device=DEVICE)))
            found.append(convolution(x, call, activated=activated))
        found.append(state.tensors["it.previous"])
    for one, other in zip(found[:4], found[4:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(DEVICE == "cuda", reason="test_cuda.py does this on the GPU itself")
def test_a_whole_step(small, opened, run, greedy, monkeypatch):
    monkeypatch.setattr(kernels, "apply_to", lambda _: True)
    monkeypatch.setattr(gemv, "MOST", 0)  # which the interpreter takes minutes for
    held = run(opened(small.load()), options=greedy).hear(small.frames[:2])
    assert np.array_equal(held.text, small.expected["lm_text"][:2])
    assert np.array_equal(np.array(held.agent).T, small.expected["lm_audio"][:, :2])
    np.testing.assert_allclose(np.concatenate(held.pcm), small.expected["agent_pcm"][: 2 * 1920], atol=1e-3)
