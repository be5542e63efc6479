"""Checkpoints in the layout of Hugging Face transformers: what is read, and what is refused with what to do."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from checkpoint_support import TOKENIZER
from safetensors.numpy import load_file, save_file

import duplex
from duplex.backends.conversion import convert
from duplex.checkpoints.checkpoint import describe, resolve
from duplex.checkpoints.weights_file import read_header
from duplex.errors import CheckpointNotFoundError, ConfigError, UsageError, WeightsError

DATA = Path(__file__).parents[1] / "data" / "transformers"


@pytest.fixture
def moshi(tmp_path):
    folder = tmp_path / "moshi"
    shutil.copytree(DATA / "moshi", folder)
    (folder / "tokenizer.model").write_bytes(TOKENIZER)
    return folder


@pytest.fixture
def mimi(tmp_path):
    return Path(shutil.copytree(DATA / "mimi", tmp_path / "mimi"))


def change(folder, *within, **values):
    mapping = json.loads((folder / "config.json").read_text())
    section = mapping
    for key in within:
        section = section[key]
    section |= values
    (folder / "config.json").write_text(json.dumps(mapping))


def test_a_model_and_its_codec_are_told_apart(moshi):
    whole = read_header(moshi / "model.safetensors")
    info = describe(str(moshi))
    assert (info.model_type, info.tokenizer_pieces) == ("moshi", 288)
    assert info.weights is not None
    assert len(info.weights) + len(info.mimi_weights) == len(whole)
    assert all(name.startswith("audio_encoder.") for name in info.mimi_weights)
    assert info.as_json()["model"]["delays"] == [0, 0, 1, 1, 0, 1, 1]


def test_a_codec_alone(mimi):
    assert (describe(str(mimi)).model_type, describe(str(mimi)).language_model) == ("mimi", None)
    with pytest.raises(ConfigError, match=r"a codec alone .* a conversation needs a model, such as kyutai/"):
        resolve(str(mimi))


def test_older_spellings_of_the_configuration(mimi):
    mapping = json.loads((mimi / "config.json").read_text())
    new = resolve(str(mimi), parts=("codec",)).mimi
    del mapping["rope_parameters"], mapping["_frame_rate"]
    mapping |= {"rope_theta": 10000.0, "rope_scaling": None, "frame_rate": 12.5, "normalize": False}
    mapping |= {"torch_dtype": "float32", "_name_or_path": "", "id2label": {"0": "LABEL_0"}, "top_k": 50}
    (mimi / "config.json").write_text(json.dumps(mapping))
    assert resolve(str(mimi), parts=("codec",)).mimi == new


def test_a_model_in_several_files(moshi):
    """As large ones are saved: each tensor is where the index says."""
    with duplex.load(str(moshi), device="cpu") as model:
        pcm = np.random.default_rng(0).normal(0, 0.2, 4 * 1920).astype(np.float32)
        codes = model.codec.encode(pcm)
    tensors = load_file(moshi / "model.safetensors")
    (moshi / "model.safetensors").unlink()
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    places = {name: files[number % 2] for number, name in enumerate(sorted(tensors))}
    for file in files:
        save_file({name: tensor for name, tensor in tensors.items() if places[name] == file}, moshi / file)
    (moshi / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    found = resolve(str(moshi))
    assert len(found.fingerprint) == 64
    assert found.weights_size == sum((moshi / file).stat().st_size for file in files)
    with duplex.load(str(moshi), device="cpu") as model:
        np.testing.assert_array_equal(model.codec.encode(pcm), codes)
    (moshi / files[1]).unlink()
    with pytest.raises((CheckpointNotFoundError, WeightsError), match=files[1]):
        resolve(str(moshi))


@pytest.mark.parametrize("text", ["{}", "[1]", '{"weight_map": {"a": "../b.safetensors"}}', '{"weight_map": {}}'])
def test_an_index_that_is_none(moshi, text):
    (moshi / "model.safetensors").rename(moshi / "other.safetensors")
    (moshi / "model.safetensors.index.json").write_text(text)
    with pytest.raises(WeightsError, match="index"):
        resolve(str(moshi))


@pytest.mark.parametrize(
    ("within", "values", "message"),
    [
        ([], {"architectures": ["MoshiForCausalLM"]}, "MoshiForConditionalGeneration and MimiModel are read"),
        ([], {"hidden_act": "gelu"}, "'hidden_act' is 'gelu', which this version cannot run"),
        ([], {"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters: 'rope_type' is 'yarn'"),
        ([], {"head_dim": 16}, "'head_dim' is 16"),
        ([], {"ffn_dim": 87}, "'ffn_dim' is 87"),
        ([], {"num_attention_heads": "4"}, "'num_attention_heads' is '4'"),
        ([], {"something_new": 1}, "unknown key 'something_new'"),
        (["depth_decoder_config"], {"sliding_window": 2}, "depth_decoder_config: 'sliding_window'"),
        (["depth_decoder_config"], {"something_new": 1}, "depth_decoder_config: unknown key 'something_new'"),
        (["audio_encoder_config"], {"num_semantic_quantizers": 2}, "audio_encoder_config: 'num_semantic_quantizers'"),
        (["audio_encoder_config"], {"decoder_config": None}, "whole codecs"),
        (["audio_encoder_config"], {"upsampling_ratios": [0]}, "ratios"),
    ],
)
def test_what_is_not_run(moshi, within, values, message):
    change(moshi, *within, **values)
    with pytest.raises(ConfigError, match=message):
        resolve(str(moshi))


def test_a_tokenizer_that_is_not_read(moshi):
    (moshi / "tokenizer.model").unlink()
    (moshi / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointNotFoundError, match=r"tokenizer\.json alone.*copy the sentencepiece model"):
        resolve(str(moshi))


def test_tensors_that_do_not_belong(moshi):
    tensors = load_file(moshi / "model.safetensors")
    save_file(
        {**tensors, "decoder.model.layers.0.self_attn.more.weight": tensors["decoder.model.norm.weight"]},
        moshi / "model.safetensors",
    )
    with pytest.raises(WeightsError, match=r"unknown tensor 'transformer\.layers\.0\.self_attn\.more\.weight'"):
        duplex.load(str(moshi), device="cpu")


def test_a_published_adapter_is_refused(moshi, tmp_path):
    shape = {"text_linear.lora_A.weight": (2, 32), "text_linear.lora_B.weight": (60, 2)}
    save_file({name: np.ones(size, np.float32) for name, size in shape.items()}, tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError, match=r"rows lie otherwise than an adapter's; give the same model as its authors"):
        resolve(str(moshi), adapter=str(tmp_path / "lora.safetensors"))


def test_no_conversion(moshi, tmp_path):
    pytest.importorskip("mlx.core")
    with pytest.raises(UsageError, match="which is not converted; give the same model as its authors published it"):
        convert(str(moshi), tmp_path / "converted")
