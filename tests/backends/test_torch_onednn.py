"""Weights in another layout stand for what they stood for."""

import copy
import os
import subprocess
import sys
from typing import get_args

import pytest
import torch

from duplex.backends.torch.attention import Attention
from duplex.backends.torch.conv import CausalConv1d, CausalConvTranspose1d
from duplex.backends.torch.depth import StackedAttention
from duplex.backends.torch.int4 import PackedInt4
from duplex.backends.torch.linear import Projection, linear, part
from duplex.backends.torch.onednn import OneDnnWeight, onednn_weights_of
from duplex.backends.torch.prepacking import prepack
from duplex.backends.torch.products.choice import Layout
from duplex.backends.torch.products.layouts import fixed, kind_of, laid_out, layouts_of
from duplex.backends.torch.quantize import Quantized
from duplex.backends.torch.state import Call

LARGE = 1024


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_products(dtype, error, layout, rows):
    """All that can be chosen among come to the same."""
    if layout not in layouts_of(str(dtype).removeprefix("torch.")):
        pytest.skip("this processor has no such layout")
    weight, x, bias = (torch.randn(shape, dtype=dtype) for shape in ((LARGE, LARGE), (2, rows, LARGE), (LARGE,)))
    packed, expected = laid_out(weight, layout), x @ weight.T
    assert (linear(x, packed) - expected).norm() <= error * expected.norm()
    assert (linear(x, packed, bias) - expected - bias).norm() <= error * expected.norm()


@pytest.mark.parametrize("layout", ["blocks", "blocks4"])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_products_of_whole_numbers(layout, rows):
    """They are exact, and so is their place among rows and outputs."""
    if layout not in layouts_of("int8"):
        pytest.skip("this processor does not multiply whole numbers exactly")
    weight, x = Quantized.of(torch.randn(96, 128), "int8"), torch.randn(2, rows, 128)
    torch.testing.assert_close(laid_out(weight, layout).multiply(x), weight.multiply(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_of_4_bits(rows, dtype):
    """They stand for the same weights, and what goes in and comes out is rounded to bfloat16."""
    weight, x = Quantized.of(torch.randn(96, 128), "int4"), torch.randn(2, rows, 128, dtype=dtype)
    if not PackedInt4.possible(weight):
        pytest.skip("there is no operation for it")
    expected = x.bfloat16().float() @ weight.wide(torch.float32).T
    torch.testing.assert_close(PackedInt4.of(weight).multiply(x).float(), expected, rtol=1e-2, atol=0.05)


@torch.inference_mode()
def test_weights_of_4_bits_are_exact():
    """Of unit vectors the product is the matrix itself, but for the rounding of what comes out."""
    weight = Quantized.of(torch.randn(64, 96), "int4")
    if not PackedInt4.possible(weight):
        pytest.skip("there is no operation for it")
    found = PackedInt4.of(weight).multiply(torch.eye(96)).T
    assert torch.equal(found, weight.wide(torch.float32).bfloat16().float())
    assert not PackedInt4.possible(Quantized.of(torch.randn(60, 96), "int4")), "such outputs stay as they are"


def test_a_processor_that_lacks_what_bfloat16_needs():
    """There is a layout for it all the same."""
    code = "from duplex.backends.torch.products.layouts import *; print(fixed('bfloat16', 1024, 1024))"
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    ended = subprocess.run([sys.executable, "-c", code], env=os.environ | limits, capture_output=True, check=True)
    assert ended.stdout.strip() in (b"rows", b"columns", b"blocks")


def test_what_is_small_is_not_packed():
    assert fixed("float32", 64, 64) == "rows"
    assert fixed("float32", LARGE, LARGE) == "blocks4"
    assert fixed("bfloat16", LARGE, LARGE) == "blocks"
    assert kind_of(torch.zeros(LARGE, LARGE, dtype=torch.float64)) is None


@pytest.mark.parametrize("width", [32, LARGE])
@pytest.mark.parametrize(
    "make",
    [
        lambda width: CausalConv1d(width, width, 4, stride=2),
        lambda width: CausalConv1d(width, width // 2, 3),
        lambda width: CausalConv1d(width, width // 2, 3, dilation=2),
        lambda width: CausalConv1d(width, 1, 3, bias=False),
        lambda width: CausalConv1d(1, width, 7),
        lambda width: CausalConvTranspose1d(width, width // 2, 4),
        lambda width: CausalConvTranspose1d(width, width // 2, 4, bias=False),
        lambda width: CausalConvTranspose1d(width, width, 2, separate=True, bias=False),
    ],
)
@torch.inference_mode()
def test_convolutions(make, width):
    """Of torch's own operations, with the past of silence in front."""
    plain = make(width)
    packed = copy.deepcopy(plain)
    prepack(packed)
    layer = plain.layer[0]
    x = torch.randn(2, 8, plain.channels)
    if isinstance(plain, CausalConv1d):
        expected = layer(torch.nn.functional.pad(x.transpose(1, 2), (plain.past, 0))).transpose(1, 2)
    else:
        expected = layer(x.transpose(1, 2))[:, :, : 8 * plain.stride].transpose(1, 2)
    for module in (plain, packed):
        torch.testing.assert_close(module(x, Call()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [64, LARGE])
@torch.inference_mode()
def test_stacked_weights(width):
    """Those of the depth transformer's codebooks, whose parts are packed one by one."""
    stacked = StackedAttention(width, 4, sets=3)
    torch.nn.init.normal_(stacked.in_proj_weight)
    torch.nn.init.normal_(stacked.out_proj.weight)
    packed = copy.deepcopy(stacked)
    prepack(packed)
    assert len(onednn_weights_of(packed)) == (6 if width == LARGE else 0)
    x = torch.randn(2, width)
    for codebook in range(3):
        expected = x @ part(stacked.out_proj.weight, codebook, 3).T
        found = part(packed.out_proj.weight, codebook, 3)
        found = found.multiply(x) if isinstance(found, OneDnnWeight) else x @ found.T
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)


def test_every_kind_is_found():
    module = torch.nn.ModuleList(
        [Projection(LARGE, LARGE), Attention(LARGE, 8), CausalConvTranspose1d(LARGE, LARGE, 4)]
    )
    prepack(module)
    assert len(onednn_weights_of(module)) == 1 + 2 + 1
    assert not any(isinstance(value, OneDnnWeight) for value in vars(module[2].layer[0]).values())
