"""Relatives of Moshi in both published layouts, whole and quantized, on the MLX backend, and ``duplex convert``."""

import json
import shutil

import numpy as np
import pytest
from family_support import FAMILY, GREEDY, MIMI, config_of

from duplex.backends.conversion import convert
from duplex.checkpoints import checkpoint
from duplex.checkpoints.weight_names import mlx_tensor_blocks
from duplex.errors import WeightsError
from duplex.frame_model import Conditions

mx = pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
language_model = pytest.importorskip("duplex.backends.mlx.language_model")
arrays_of = pytest.importorskip("duplex.backends.mlx.arrays")

FRAMES = 8
GOOD = Conditions(words={"description": "very_good"})
WIDER = {
    "dim": 128,
    "hidden_scale": 2.25,
    "depformer_dim": 64,
    "depformer_dim_feedforward": [96, 192, 96],
    "depformer_low_rank_embeddings": 64,
}
"""Widths that are multiples of 64, as published ones are, and feed-forward layers that differ between weight sets."""


def whole(name, folder):
    """Copy a relative into a folder, with any codec and tokenizer of its size."""
    shutil.copytree(FAMILY / name, folder)
    mapping = json.loads((folder / "config.json").read_text())
    for key in ("mimi_name", "mimi_config_name", "tokenizer_name"):
        given = json.loads((MIMI / "config.json").read_text())[key]
        shutil.copyfile(MIMI / given, folder / mapping[key])
    return folder


@pytest.fixture(scope="module", params=["hibiki", "hibiki-zero", "tts"])
def published(request, tmp_path_factory):
    return whole(request.param, tmp_path_factory.mktemp(request.param) / "published")


def arrays(folder):
    return mx.load(str(next(folder.glob("model*.safetensors"))))


@pytest.fixture(scope="module")
def halved(published, tmp_path_factory):
    """The same in bfloat16, in torch's layout and in MLX's."""
    folder = tmp_path_factory.mktemp("halved")
    convert(str(published), folder / "torch", layout="torch")
    convert(str(published), folder / "mlx", layout="mlx")
    return folder


def test_a_conversion_there_and_back_changes_nothing(published, halved, tmp_path):
    convert(str(halved / "mlx"), tmp_path / "back", layout="torch")
    original = mx.load(
        str(
            next(
                path for path in published.glob("*.safetensors") if "small" in path.name or path.name.startswith("dsm")
            )
        )
    )
    half, back = arrays(halved / "torch"), arrays(tmp_path / "back")
    assert back.keys() == half.keys() == original.keys()
    for name, value in half.items():
        assert value.dtype == (mx.float32 if name.startswith("condition_provider.") else mx.bfloat16), name
        assert back[name].dtype == value.dtype, name
        assert back[name].shape == original[name].shape, name
        assert mx.array_equal(back[name], value), name


def test_both_layouts_hold_the_same_model(halved):
    """MLX's holds a set of weights once for each of its codebooks."""
    config = checkpoint.resolve(str(halved / "mlx")).language_model
    first, second = (
        dict(
            arrays_of.parameters(
                language_model.load_language_model(
                    config, next((halved / layout).glob("model*")), dtype=mx.float32, packing=None
                )
            )
        )
        for layout in ("torch", "mlx")
    )
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert mx.array_equal(value, second[name]), name


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A random checkpoint in MLX's layout that can be quantized, with all that translation models have."""
    folder = whole("hibiki-zero", tmp_path_factory.mktemp("wide") / "checkpoint")
    mapping = json.loads((folder / "config.json").read_text()) | WIDER
    described = json.loads((FAMILY / "hibiki" / "config.json").read_text())
    mapping |= {key: described[key] for key in ("conditioners", "fuser")} | {"moshi_name": "model.safetensors"}
    next(folder.glob("hibiki*")).unlink()
    (folder / "config.json").write_text(json.dumps(mapping))
    config = config_of(mapping)
    random, made = np.random.default_rng(0), {}
    shapes = {name: array.shape for name, array in arrays_of.parameters(language_model.LanguageModel(config))}
    values = {}
    for name, block in mlx_tensor_blocks(config).items():
        shape = shapes[name]
        if block not in values:
            scale = 1 if len(shape) == 1 else shape[-1] ** -0.5
            drawn = random.normal(0, scale, shape) + (len(shape) == 1)
            kind = mx.float32 if name.startswith("condition_provider.") else mx.bfloat16  # as conversion leaves them
            values[block] = mx.array(drawn.astype(np.float32)).astype(kind)
        made[name] = values[block]
    arrays_of.save(folder / "model.safetensors", made, {})
    return folder


@pytest.fixture
def answer(small, run, opened):
    def answered(folder, **options):
        model = opened(small.load(folder, backend="mlx", **options))
        model.open(0, GREEDY, GOOD)
        return run(model, opened=True).hear(small.frames[:FRAMES]).tokens

    return answered


def test_codebooks_that_share_weights_have_the_same(wide, small, tmp_path):
    shutil.copytree(wide, tmp_path / "odd")
    name = "depformer.slices.3.transformer.layers.0.gating.linear_in.weight"
    arrays_of.save(tmp_path / "odd" / "model.safetensors", {**arrays(wide), name: 2 * arrays(wide)[name]}, {})
    with pytest.raises(WeightsError, match=r"depformer\.slices\.3\..*is not what another codebook has"):
        small.load(tmp_path / "odd", backend="mlx")


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_quantized_on_loading_and_by_conversion(wide, answer, tmp_path, quantize):
    convert(str(wide), tmp_path / "packed", layout="mlx", quantize=quantize)
    kinds = {name: array.dtype for name, array in arrays(tmp_path / "packed").items()}
    assert kinds["depformer.slices.3.transformer.layers.0.gating.linear_in.weight"] == mx.uint32
    assert kinds["condition_provider.conditioners.description.output_proj.weight"] == mx.float32
    np.testing.assert_array_equal(answer(tmp_path / "packed"), answer(wide, quantize=quantize))


def test_eight_bits_in_torch_layout(wide, answer, tmp_path):
    convert(str(wide), tmp_path / "packed", layout="torch", quantize="int8")
    kinds = {name: array.dtype for name, array in arrays(tmp_path / "packed").items()}
    assert kinds["depformer.layers.0.self_attn.in_projs.2.weight"] == mx.int8
    assert kinds["condition_provider.conditioners.description.output_proj.weight"] == mx.float32
    assert answer(tmp_path / "packed").shape == answer(wide).shape
