"""From names to files: folders, built-in models, and everything that may be wrong with them."""

import json
import shutil

import attrs
import numpy as np
import pytest
from checkpoint_support import (  # noqa: F401
    MIMI,
    MIMI_CONFIG,
    MODEL_CONFIG,
    OTHER_KEYS,
    TOKENIZER,
    checkpoint_files,
    folder,
    tokenizer_bytes,
    weights,
    write,
)
from safetensors.numpy import save, save_file

from duplex.checkpoints.checkpoint import describe, read_header, resolve
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.errors import CheckpointNotFoundError, ConfigError, UsageError, WeightsError
from duplex.options import SessionOptions

LEGACY_TOKENIZER = "tokenizer_spm_32k_3.model"


PUBLISHED = SessionOptions(temperature=0.8, text_temperature=0.7, top_k=250, text_top_k=25, seed=0, guidance=1.0)


def configured(folder, **changes):
    (folder / "config.json").write_bytes(checkpoint_files(**changes)["config.json"])
    return str(folder)


def test_a_folder(folder):
    checkpoint = resolve(str(folder))
    assert checkpoint.name == str(folder)
    assert checkpoint.revision is None
    assert checkpoint.language_model == LanguageModelConfig(**MODEL_CONFIG)
    assert checkpoint.mimi.quantizer.bins == 16
    assert checkpoint.codebooks == 2
    assert checkpoint.weights == folder / "model.safetensors"
    assert checkpoint.mimi_weights == folder / MIMI
    assert checkpoint.tokenizer == folder / "spm.model"
    assert checkpoint.defaults == SessionOptions(
        temperature=0.5, text_temperature=0.4, top_k=10, text_top_k=5, seed=0, guidance=1.0
    )
    assert checkpoint.model_type == "moshi"
    assert checkpoint.note == ""


def test_parts(folder):
    codec = resolve(str(folder), parts=("codec",))
    assert (codec.weights, codec.tokenizer, codec.mimi_weights) == (None, None, folder / MIMI)
    assert codec.codebooks == 2
    model = resolve(str(folder), parts=("model",))
    assert model.mimi_weights is None
    assert model.weights == folder / "model.safetensors"
    for wrong in ((), ("voice",)):
        with pytest.raises(UsageError, match="parts"):
            resolve(str(folder), parts=wrong)


def test_without_config_it_is_moshi_7b(tmp_path):
    folder = write(tmp_path, {"model.safetensors": save(weights()), MIMI: save(weights()), LEGACY_TOKENIZER: TOKENIZER})
    checkpoint = resolve(str(folder))
    assert checkpoint.language_model == LanguageModelConfig()
    assert checkpoint.mimi == MimiConfig()
    assert checkpoint.defaults == PUBLISHED
    assert checkpoint.tokenizer == folder / LEGACY_TOKENIZER


def test_mimi_alone(tmp_path):
    folder = write(tmp_path, {MIMI: save(weights())})
    checkpoint = resolve(str(folder), parts=("codec",))
    assert checkpoint.language_model is None
    assert checkpoint.codebooks == 32
    with pytest.raises(CheckpointNotFoundError, match=r"model\.safetensors.*config\.json"):
        resolve(str(folder))
    assert describe(str(folder)).as_json()["model"] is None
    assert describe(str(folder)).model_type == "mimi"


def test_mimi_alone_with_its_own_config(tmp_path):
    folder = write(tmp_path, {MIMI: save(weights()), "mimi_config.json": json.dumps(MIMI_CONFIG).encode()})
    assert resolve(str(folder), parts=("codec",)).mimi.quantizer.bins == 16


def test_mimi_of_a_relative(folder):
    checkpoint = resolve(configured(folder, model_type="helium", extra_heads_num_heads=4), parts=("codec",))
    assert checkpoint.language_model is None
    assert checkpoint.mimi_weights == folder / MIMI


def test_an_empty_folder(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match=r"config\.json"):
        resolve(str(tmp_path))


def test_note(folder):
    (folder / "notes.txt").write_text("Speaks like a ship's horn.\n")
    assert resolve(str(folder)).note == "Speaks like a ship's horn."
    assert describe(str(folder)).note == "Speaks like a ship's horn."


def test_file_names_elsewhere(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder / MIMI, elsewhere / "mimi.safetensors")
    name = configured(folder, mimi_name=f"file://{elsewhere}/mimi.safetensors")
    assert resolve(name).mimi_weights == elsewhere / "mimi.safetensors"
    with pytest.raises(CheckpointNotFoundError, match=r"gone\.safetensors"):
        resolve(configured(folder, mimi_name=f"file://{elsewhere}/gone.safetensors"))


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", "C:\\x.safetensors", "hf://a/b"]
)
def test_names_that_lead_out_of_the_checkpoint(folder, name):
    suffix = "" if name.endswith(".safetensors") else ".safetensors"
    with pytest.raises(ConfigError, match="'mimi_name'"):
        resolve(configured(folder, mimi_name=name + suffix))


@pytest.mark.parametrize("key", ["moshi_name", "mimi_name", "tokenizer_name"])
def test_a_missing_file_is_named_with_its_key(folder, key):
    file = OTHER_KEYS[key]
    (folder / file).unlink()
    for call in (resolve, describe):
        with pytest.raises(CheckpointNotFoundError, match=f"'{file}' is missing.*'{key}'"):
            call(str(folder))


def test_a_missing_mimi_config(folder):
    (folder / "mimi_config.json").unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"mimi_config\.json"):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "helium"}, "'model_type' is 'helium'"),
        ({"model_type": "stt"}, "'dep_q' does not fit"),
        ({"model_type": "stt", "dep_q": 0}, "'stt_config' belongs to 'model_type' stt"),
        ({"model_type": "tts"}, "'dep_q' does not fit"),
        ({"dep_q": 4}, "'dep_q' does not fit"),
        ({"model_type": "hibiki", "fuser": {"sum": ["description"]}}, "'fuser' names 'description'"),
        ({"model_type": "hibiki", "fuser": {"prepend": ["description"]}}, "'prepend'"),
        ({"conditioners": {"tone": {"type": "lut", "lut": {"n_bins": 2}}}}, "'dim' is missing"),
        ({"conditioners": {"tone": {"type": "wav"}}}, "one of 'lut'"),
        ({"conditioners": {"tone": {"type": "tensor", "tensor": {"dim": 4}}}}, "'tone', which 'fuser' does not use"),
        ({"depformer_weights_per_step_schedule": [0, 2]}, "'depformer_weights_per_step_schedule' does not fit"),
        ({"depformer_dim_feedforward": [8, 8, 8]}, "'depformer_dim_feedforward' does not fit"),
        ({"depformer_dim_feedforward": "8"}, "'depformer_dim_feedforward' wants"),
        ({"kv_repeat": 3}, "'kv_repeat' does not fit"),
        ({"lora_name": "lora.bin"}, r"'lora_name' is 'lora.bin'; only \.safetensors"),
        ({"lora_rank": 0}, "'lora_rank' is 0"),
        ({"lora_scaling": "2"}, "'lora_scaling' is '2'"),
        ({"tts_config": {"audio_delay": 1}, "model_type": None}, "'tts_config' belongs"),
        ({"stt_config": {}, "model_type": None}, "'stt_config' belongs"),
        ({"new_key": 1}, "unknown key 'new_key'"),
        ({"moshi_name": 3}, "'moshi_name' is 3"),
        ({"moshi_name": "model.q8.bin"}, r"'moshi_name' is 'model.q8.bin'; only \.safetensors and \.gguf"),
        ({"mimi_name": "mimi.pt"}, r"'mimi_name' is 'mimi.pt'; only \.safetensors"),
        ({"mimi_name": "mimi.bin"}, "'mimi_name'"),
        ({"mimi_config_name": "mimi.yaml"}, "'mimi_config_name'"),
        ({"card": 32}, r"'card' is 32.*'quantizer\.bins' is 16"),
        ({"n_q": 12, "dep_q": 6, "delays": [0] * 13}, r"6 codebooks.*'quantizer\.n_q' is 4"),
        ({"lm_gen_config": {"temp": "hot"}}, "'temp' is 'hot'"),
        ({"lm_gen_config": {"temp": -1}}, "'temp' is -1"),
        ({"lm_gen_config": {"temp": 1000}}, "temperature is 1000"),
        ({"lm_gen_config": {"top_k": 2.5}}, "'top_k' is 2.5"),
        ({"lm_gen_config": {"beam": 3}}, "'beam'"),
        ({"lm_gen_config": [1]}, "'lm_gen_config'"),
    ],
)
def test_configurations_that_are_not_run(folder, changes, match):
    for call in (resolve, describe):
        with pytest.raises(ConfigError, match=match) as caught:
            call(configured(folder, **changes))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_config_that_is_no_config(folder, text):
    (folder / "config.json").write_bytes(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (None, PUBLISHED),
        ({}, PUBLISHED),
        ({"temp": 0, "top_k": 0}, attrs.evolve(PUBLISHED, temperature=0, top_k=0)),
        ({"cfg_coef": 1.0, "use_sampling": True}, PUBLISHED),
        ({"text_temp": 0.6, "cfg_coef": 3}, attrs.evolve(PUBLISHED, text_temperature=0.6, guidance=3.0)),
        ({"use_sampling": False}, attrs.evolve(PUBLISHED, temperature=0.0, text_temperature=0.0, greedy=True)),
    ],
)
def test_sampling_defaults(folder, settings, expected):
    assert resolve(configured(folder, lm_gen_config=settings)).defaults == expected


@pytest.mark.parametrize("file", ["model.safetensors", MIMI])
@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no safetensors file"),
        (b"\x00" * 100, "no safetensors file"),
        (b"PK\x03\x04" + bytes(99), "zip archive.*pickle"),
        (b"\x80\x02}q\x00." + bytes(99), "pickle"),
        (b"GGUF\x03\x00\x00\x00" + bytes(99), "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<!doctype html><html>", "web page"),
        (save(weights())[:-1], "cut short"),
        (save(weights())[:20], "cut short"),
        (save(weights()) + b"!", "damaged"),
        ((2).to_bytes(8, "little") + b"{]", "header is damaged"),
        ((9).to_bytes(8, "little") + b'{"a": {}}', "header is damaged"),
        ((9).to_bytes(8, "little") + b'{"a": 17}', "header is damaged"),
    ],
)
def test_weights_that_are_none(folder, file, content, match):
    (folder / file).write_bytes(content)
    with pytest.raises(WeightsError, match=match) as caught:
        resolve(str(folder))
    assert file in str(caught.value)


def test_a_header_whose_sizes_do_not_add_up(tmp_path):
    file = tmp_path / "a.safetensors"
    content = save({"a": np.zeros(4, np.float32)})
    file.write_bytes(content.replace(b"[4]", b"[5]"))
    with pytest.raises(WeightsError, match="header is damaged"):
        read_header(file)


def test_read_header(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file(weights(), file, {"format": "pt"})
    header = read_header(file)
    assert header.metadata == {"format": "pt"}
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in header.items()} == {
        "a": ("F32", (50, 700)),
        "b": ("F16", (3,)),
    }
    assert header.elements == {"F32": 35000, "F16": 3}
    assert header.bytes == {"F32": 140000, "F16": 6}
    with pytest.raises(WeightsError, match="cannot be read"):
        read_header(tmp_path / "none.safetensors")


def test_read_header_of_scalars_and_empty_files(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"scalar": np.array(1.0, np.float32), "empty": np.zeros((0, 3), np.int64)}, file)
    assert read_header(file).elements == {"F32": 1, "I64": 0}
    save_file({}, file)
    assert read_header(file) == {}


def test_fingerprints_tell_checkpoints_apart(folder, tmp_path):
    def fingerprint(**files):
        other = write(tmp_path / "other", checkpoint_files() | {name: files[name] for name in files})
        return resolve(str(other)).fingerprint

    plain = resolve(str(folder)).fingerprint
    assert len(plain) == 64
    assert fingerprint() == plain
    seeds = {fingerprint(**{"model.safetensors": save(weights(seed))}) for seed in range(2, 5)}
    assert len(seeds | {plain}) == 4
    assert fingerprint(**{MIMI: save(weights(5))}) not in seeds | {plain}
    assert fingerprint(**{"config.json": checkpoint_files(context=21)["config.json"]}) != plain
    checkpoint = resolve(str(folder))
    before = checkpoint.fingerprint
    (folder / MIMI).unlink()
    assert checkpoint.fingerprint == before


def test_fingerprint_of_tiny_weights(folder):
    save_file({"a": np.zeros(1, np.uint8)}, folder / "model.safetensors")
    assert len(resolve(str(folder)).fingerprint) == 64
