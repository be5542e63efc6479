"""GGUF files and the names of the programs in Rust: the same tokens as from the weights that they stand for."""

import contextlib
import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from family_support import FAMILY, GREEDY, said
from safetensors.numpy import load_file, save_file

from duplex.checkpoints import checkpoint
from duplex.checkpoints.gguf_file import GgufFile, is_rounded
from duplex.errors import MissingDependencyError, WeightsError

SOURCE = FAMILY / "personaplex"
STEPS = 16
HEARD = np.random.default_rng(3).integers(0, 64, (8, 6))


def as_rust(name, tensor):
    """Yield the names that a published tensor has in a file for the programs in Rust, and its parts."""
    for ours, theirs in (
        (r"depformer_in\.(\d+)\.", r"depformer.\1.linear_in."),
        (r"linears\.(\d+)\.", r"depformer.\1.linear_out."),
        (r"depformer_text_emb\.", r"depformer.0.emb."),
        (r"depformer\.(layers\.\d+)\.gating\.(\d+)\.", r"depformer.\2.transformer.\1.gating."),
    ):
        if re.match(ours, name):
            yield re.sub(ours, theirs, name), tensor
            return
    match = re.match(r"depformer_emb\.(\d+)\.(.*)", name)
    if match:
        yield f"depformer.{int(match[1]) + 1}.emb.{match[2]}", tensor
    elif name.startswith("depformer."):
        parts = [tensor] * STEPS if "norm" in name else np.split(tensor, STEPS)
        for step, part in enumerate(parts):
            yield name.replace("depformer.", f"depformer.{step}.transformer."), part
    else:
        yield name, tensor


@pytest.fixture(params=["torch", "mlx"])
def backend(request):
    if request.param == "mlx":
        pytest.importorskip("mlx.core")
    return request.param


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(SOURCE, tmp_path / "model"))


def renamed(folder, file):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"moshi_name": file}))


def tokens(folder, backend):
    found = checkpoint.resolve(str(folder))
    model = importlib.import_module(f"duplex.backends.{backend}").load_model(
        found.language_model,
        found.mimi,
        weights=found.weights,
        mimi_weights=found.mimi_weights,
        fingerprint=found.fingerprint,
        deterministic=False,
        device="cpu",
        dtype="float32",
        quantize=None,
        cache_dtype="auto",
        sessions=1,
    )
    with contextlib.closing(model):
        model.open(0, GREEDY)
        heard = HEARD[: model.spec.user_streams] % found.language_model.card
        return np.concatenate([np.atleast_2d(said) for said in said(model, 0, heard)])


def rust_tensors(folder):
    published = load_file(folder / "model.safetensors")
    return {theirs: part for name, tensor in published.items() for theirs, part in as_rust(name, tensor)}


def test_the_names_of_the_programs_in_rust(folder, backend):
    wanted = tokens(folder, backend)
    save_file(
        {name: np.ascontiguousarray(part) for name, part in rust_tensors(folder).items()}, folder / "rust.safetensors"
    )
    renamed(folder, "rust.safetensors")
    np.testing.assert_array_equal(tokens(folder, backend), wanted)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "F16"])
def test_blocks_of_few_bits(folder, backend, kind):
    gguf = pytest.importorskip("gguf", reason="GGUF is not installed: pip install 'duplex-speech[gguf]'")
    writer = gguf.GGUFWriter(folder / "model.q8.gguf", "moshi")
    kinds = gguf.GGMLQuantizationType
    stands_for = {}
    for name, tensor in rust_tensors(folder).items():
        numbers = np.ascontiguousarray(tensor, np.float32)
        chosen = kinds[kind] if numbers.ndim == 2 and numbers.shape[1] % 32 == 0 else kinds.F32
        blocks = gguf.quantize(numbers, chosen)
        writer.add_tensor(name, blocks, raw_dtype=chosen)
        stands_for[name] = gguf.dequantize(blocks, chosen).reshape(numbers.shape)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    save_file({name: np.array(part, np.float32) for name, part in stands_for.items()}, folder / "whole.safetensors")
    renamed(folder, "whole.safetensors")
    wanted = tokens(folder, backend)
    renamed(folder, "model.q8.gguf")
    np.testing.assert_array_equal(tokens(folder, backend), wanted)


def test_blocks_of_k_quants(tmp_path):
    """As in files of q4_k: 256 weights a block, in parts with a scale each; Python has no program that makes them."""
    gguf = pytest.importorskip("gguf", reason="GGUF is not installed: pip install 'duplex-speech[gguf]'")
    chosen = np.random.default_rng(5).integers(0, 16, (4, 2, 4, 2, 32), np.uint8)  # rows, blocks, halves of 32 bytes
    scale, least = np.array([0.25, 0.5], np.float16)
    head = np.frombuffer(scale.tobytes() + least.tobytes() + bytes([2] * 4 + [3] * 4 + [0x32] * 4), np.uint8)
    nibbles = chosen[:, :, :, 0] | chosen[:, :, :, 1] << 4
    blocks = np.concatenate([np.broadcast_to(head, (4, 2, 16)), nibbles.reshape(4, 2, 128)], axis=2)
    writer = gguf.GGUFWriter(tmp_path / "model.q4k.gguf", "moshi")
    writer.add_tensor("weight", np.ascontiguousarray(blocks.reshape(4, -1)), raw_dtype=gguf.GGMLQuantizationType.Q4_K)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    file = GgufFile(tmp_path / "model.q4k.gguf")
    assert file.header["weight"].shape == (4, 512)
    assert is_rounded(file.header["weight"])
    expected = (0.25 * 2 * chosen.astype(np.float32) - 0.5 * 3).reshape(4, 512)
    np.testing.assert_array_equal(file.read("weight"), expected)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + bytes(200), b"something else" * 20])
def test_a_damaged_file(folder, content):
    pytest.importorskip("gguf", reason="GGUF is not installed: pip install 'duplex-speech[gguf]'")
    (folder / "model.q8.gguf").write_bytes(content)
    renamed(folder, "model.q8.gguf")
    with pytest.raises(WeightsError, match="no GGUF file, or a damaged one"):
        checkpoint.resolve(str(folder))


def test_without_the_package(folder):
    if importlib.util.find_spec("gguf") is not None:
        pytest.skip("it is installed")
    (folder / "model.q8.gguf").write_bytes(b"GGUF")
    renamed(folder, "model.q8.gguf")
    with pytest.raises(MissingDependencyError, match=r"needs gguf; install it with: pip install .*\[gguf\]"):
        checkpoint.resolve(str(folder))
