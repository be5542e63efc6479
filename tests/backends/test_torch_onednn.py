"""Weights in another layout stand for what they stood for."""

import copy

import pytest
import torch

from duplex.backends.torch.attention import Attention
from duplex.backends.torch.conv import CausalConv1d, CausalConvTranspose1d
from duplex.backends.torch.depth import StackedAttention
from duplex.backends.torch.linear import Projection, part
from duplex.backends.torch.onednn import OneDnnWeight, onednn_weights_of
from duplex.backends.torch.prepacking import prepack
from duplex.backends.torch.state import Call

LARGE = 1024


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_products(dtype, error, rows):
    weight, x, bias = (torch.randn(shape, dtype=dtype) for shape in ((LARGE, LARGE), (2, rows, LARGE), (LARGE,)))
    assert OneDnnWeight.possible(weight)
    packed, expected = OneDnnWeight.of(weight), x @ weight.T
    assert (packed.multiply(x) - expected).norm() <= error * expected.norm()
    assert (packed.multiply(x, bias) - expected - bias).norm() <= error * expected.norm()


def test_what_is_small_is_not_packed():
    assert not OneDnnWeight.possible(torch.zeros(64, 64))
    assert not OneDnnWeight.possible(torch.zeros(LARGE, LARGE, dtype=torch.float64))


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
