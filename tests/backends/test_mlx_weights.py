"""Both published layouts on the MLX backend, whole and quantized; ``duplex convert``; and files that do not fit."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cli_support import files_below, full_disk
from cli_support import run as duplex_command
from duplex.backends.conversion import convert
from duplex.checkpoints import checkpoint
from duplex.errors import OutputError, UsageError, WeightsError

mx = pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
memory = pytest.importorskip("duplex.backends.mlx.memory")
language_model = pytest.importorskip("duplex.backends.mlx.language_model")
weights_of = pytest.importorskip("duplex.backends.mlx.weights")

FRAMES = 12
WIDER = {
    "dim": 128,
    "hidden_scale": 2.25,
    "depformer_dim": 64,
    "depformer_dim_feedforward": 96,
}
"""Widths that are multiples of 64, as published ones are: the reference checkpoint's are not."""


@pytest.fixture(scope="module")
def wide(small, tmp_path_factory):
    """A checkpoint in torch's layout that can be quantized."""
    import torch  # noqa: PLC0415 -- takes seconds to import

    from duplex.backends.torch.language_model import LanguageModel  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("wide") / "checkpoint"
    shutil.copytree(small.folder, folder)
    config = json.loads((folder / "config.json").read_text()) | WIDER
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    with torch.device("cpu"):
        model = LanguageModel(checkpoint.resolve(str(folder)).language_model)
    weights = {
        name.removeprefix("depth."): 1 + 0.1 * torch.randn(tensor.shape, generator=generator)
        if name.endswith("alpha")
        else torch.randn(tensor.shape, generator=generator) / tensor.shape[-1] ** 0.5
        for name, tensor in model.state_dict().items()
    }
    halves = {name: tensor.bfloat16().float().numpy() for name, tensor in weights.items()}
    save_file(halves, folder / "model.safetensors")
    return folder


@pytest.fixture
def answers(small, run, greedy, opened):
    """The tokens that a checkpoint chooses."""

    def answer(folder, **options):
        model = opened(small.load(folder, **{"backend": "mlx", **options}))
        return run(model, options=greedy).hear(small.frames[:FRAMES]).tokens

    return answer


def test_torch_and_mlx_layout_are_one_model(wide, tmp_path, answers):
    weights = convert(str(wide), tmp_path / "mlx")
    assert weights.name == "model.safetensors"
    expected = answers(wide, backend="torch")
    assert np.array_equal(answers(wide), expected)
    assert np.array_equal(answers(tmp_path / "mlx"), expected)


@pytest.mark.parametrize(
    ("quantize", "name", "group"), [("int4", "model.q4.safetensors", 32), ("int8", "model.q8.safetensors", 64)]
)
def test_quantized_on_load_and_on_file(wide, tmp_path, answers, quantize, name, group):
    weights = convert(str(wide), tmp_path / "quantized", quantize=quantize)
    assert weights.name == name
    assert json.loads((tmp_path / "quantized" / "config.json").read_text())["moshi_name"] == name
    header = checkpoint.read_header(weights)
    assert header["text_linear.scales"].shape == (96, 128 // group)
    assert header["text_linear.weight"].dtype == "U32"
    assert np.array_equal(answers(wide, quantize=quantize), answers(tmp_path / "quantized"))
    assert np.array_equal(answers(tmp_path / "quantized", quantize=quantize), answers(tmp_path / "quantized"))


def test_quantized_weights_stand_for_the_originals(wide, tmp_path):
    original = load_file(wide / "model.safetensors")["text_linear.weight"]
    for quantize, bits, group, error in (("int4", 4, 32, 0.1), ("int8", 8, 64, 0.01)):
        stored = mx.load(str(convert(str(wide), tmp_path / quantize, quantize=quantize)))
        packed = (stored[f"text_linear.{part}"] for part in ("weight", "scales", "biases"))
        meant = np.array(mx.dequantize(*packed, group_size=group, bits=bits).astype(mx.float32))
        assert np.abs(meant - original).std() < error * original.std()


@pytest.mark.parametrize("from_file", [False, True])
def test_a_quantized_product_is_exact_in_bfloat16_too(wide, tmp_path, from_file):
    """On a CPU MLX adds up in the type of the scales: in bfloat16 that is off by several per cent."""
    found = checkpoint.resolve(str(wide))
    weights = convert(str(wide), tmp_path / "quantized", quantize="int8") if from_file else found.weights
    packing = None if from_file else weights_of.PACKINGS["int8"]
    model = language_model.load_language_model(found.language_model, weights, dtype=mx.bfloat16, packing=packing)
    linear = model.transformer.layers[0].gating.linear_in
    x = mx.random.normal((64, linear.columns), key=mx.random.key(0)).astype(mx.bfloat16)
    whole = mx.dequantize(linear.weight, linear.scales, linear.biases, group_size=64, bits=8).astype(mx.float32)
    expected = x.astype(mx.float32) @ whole.T
    made = linear(x)
    assert made.dtype == mx.bfloat16
    error = mx.linalg.norm(made.astype(mx.float32) - expected) / mx.linalg.norm(expected)
    assert error.item() < 0.005, "only the result is rounded"


def test_there_and_back(wide, tmp_path):
    convert(str(wide), tmp_path / "mlx")
    assert not (tmp_path / "mlx" / "README.md").exists()
    (tmp_path / "mlx" / "README.md").write_text("---\nwidget:\n  - text: Good morning.\n---\n")
    back = convert(str(tmp_path / "mlx"), tmp_path / "torch", layout="torch")
    assert checkpoint.resolve(str(back.parent)).card.examples == ("Good morning.",)
    there, original = mx.load(str(back)), load_file(wide / "model.safetensors")
    assert set(there) == set(original)
    for name, tensor in original.items():
        assert np.array_equal(np.array(there[name].astype(mx.float32)), tensor)


@pytest.mark.parametrize("source", ["torch", "mlx"])
def test_eight_bit_in_torchs_layout(wide, tmp_path, answers, source):
    convert(str(wide), tmp_path / "source", layout=source)
    folder = tmp_path / "eight"
    weights = convert(str(tmp_path / "source"), folder, layout="torch", quantize="int8")
    assert json.loads((folder / "config.json").read_text())["quantize"] is True
    header = checkpoint.read_header(weights)
    assert header["linears.1.weight"].dtype == "I8"
    assert header["linears.1.weight_scb"].dtype == "F32"
    assert header["emb.0.weight"].dtype == "BF16"
    assert np.array_equal(answers(folder), answers(folder, backend="torch"))


def test_weights_that_cannot_all_be_quantized(small, answers):
    """Those of the reference checkpoint that can, are."""
    assert answers(small.folder, quantize="int4").shape == (9, FRAMES)
    with pytest.raises(UsageError, match="no multiple of 32"):
        convert(str(small.folder), small.folder.parent / "nowhere", quantize="int4")
    assert not (small.folder.parent / "nowhere").exists()


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("room", [100_000, 600_000])
def test_a_full_disk_leaves_nothing_and_it_can_be_done_again(wide, tmp_path, room, is_there):
    """There is no room for the weights, or there is for them, but not for the codec, which is larger."""
    folder = tmp_path / "out"
    if is_there:
        folder.mkdir()
    with full_disk(room), pytest.raises(OutputError, match=r"cannot be written: .*choose another folder"):
        convert(str(wide), folder, quantize="int4")
    assert files_below(tmp_path) == []
    assert folder.exists() == is_there
    convert(str(wide), folder, quantize="int4")
    assert (folder / "config.json").exists()


def test_the_command(wide, tmp_path):
    outcome = duplex_command("convert", wide, tmp_path / "out", "--quantize", "int4")
    assert outcome.status == 0
    assert "model.q4.safetensors" in outcome.out
    assert checkpoint.describe(str(tmp_path / "out")).model_type == "moshi"
    again = duplex_command("convert", wide, tmp_path / "out")
    assert (again.status, "is there already" in again.only_error()) == (1, True)


def test_conversions_that_cannot_be(wide, tmp_path):
    with pytest.raises(UsageError, match="torch's layout has no int4"):
        convert(str(wide), tmp_path / "a", layout="torch", quantize="int4")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(OutputError, match="name another folder"):
        convert(str(wide), tmp_path / "there")
    convert(str(wide), tmp_path / "q8", quantize="int8")
    with pytest.raises(UsageError, match="is quantized already; convert the original"):
        convert(str(tmp_path / "q8"), tmp_path / "b")


def changed(folder, target, change):
    """Copy a checkpoint, with other weights."""
    shutil.copytree(folder, target)
    file = next(target.glob("model*.safetensors"))
    weights = mx.load(str(file))
    mx.eval(weights)
    mx.save_safetensors(str(file), change(weights))
    return target


def regrouped(weights):
    shapes = {name.removesuffix(".scales"): array.shape for name, array in weights.items() if name.endswith(".scales")}
    again = dict(weights)
    for name in shapes:
        parts = (weights[f"{name}.{part}"] for part in ("weight", "scales", "biases"))
        whole = mx.dequantize(*parts, group_size=32, bits=4)
        again |= dict(
            zip((f"{name}.weight", f"{name}.scales", f"{name}.biases"), mx.quantize(whole, 64, 4), strict=True)
        )
    return again


def test_another_group_size(wide, tmp_path, small):
    convert(str(wide), tmp_path / "q4", quantize="int4")
    folder = changed(tmp_path / "q4", tmp_path / "copy", regrouped)
    with pytest.raises(
        WeightsError, match=r"to 4 bit in groups of 64; 4 bit in groups of 32 and 8 bit in groups of 64"
    ):
        small.load(folder, backend="mlx")


def test_quantized_otherwise_than_asked(wide, tmp_path, small):
    convert(str(wide), tmp_path / "q4", quantize="int4")
    with pytest.raises(UsageError, match="quantized to 4 bit already; leave `quantize` out"):
        small.load(tmp_path / "q4", backend="mlx", quantize="int8")


def test_mlx_layout_on_torch(wide, tmp_path, small):
    convert(str(wide), tmp_path / "mlx")
    with pytest.raises(WeightsError, match=r"MLX's layout.*backend='mlx'.*duplex convert SRC DST --layout torch"):
        small.load(tmp_path / "mlx")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "out_norm.alpha"}, "lacks tensor 'out_norm.alpha'"),
        (lambda w: w | {"nobody.weight": mx.ones(3)}, "unknown tensor 'nobody.weight'"),
        (lambda w: w | {"text_linear.weight": w["text_linear.weight"][:-1]}, r"'text_linear.weight' is \[95, 128\]"),
        (lambda w: w | {"text_linear.weight": w["text_linear.weight"].astype(mx.int32)}, "is I32; floating or 8-bit"),
        (
            lambda w: w | {"text_linear.weight": w["text_linear.weight"].astype(mx.int8)},
            "lacks 'text_linear.weight_scb'",
        ),
    ],
)
def test_weights_that_do_not_fit(wide, tmp_path, small, change, complaint):
    with pytest.raises(WeightsError, match=complaint):
        small.load(changed(wide, tmp_path / "copy", change), backend="mlx")


def test_memory_is_looked_at_before_loading(wide, small, monkeypatch):
    found = checkpoint.resolve(str(wide))
    headers = [checkpoint.read_header(path) for path in (found.weights, found.mimi_weights)]

    def size(**choice):
        chosen = {"quantize": None, "sessions": 1, "device": mx.default_device()} | choice
        return memory.predict(found.language_model, *headers, **chosen).total

    whole, eight, four = (
        size(dtype="float32"),
        size(dtype="bfloat16", quantize="int8"),
        size(dtype="bfloat16", quantize="int4"),
    )
    assert whole > size(dtype="bfloat16") > eight > four
    monkeypatch.setattr(memory, "available", lambda _: eight + 1)
    with pytest.raises(
        UsageError, match=r"1 session .* \(dtype='float32'\).*quantize='int8' with sessions=1 would fit"
    ):
        small.load(wide, backend="mlx")
    monkeypatch.setattr(memory, "available", lambda _: four / 2)
    with pytest.raises(UsageError, match="choose a smaller model"):
        small.load(wide, backend="mlx")
