"""Configurations and headers from elsewhere: numbers that no model has are told by name, at once."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from checkpoint_support import folder  # noqa: F401
from safetensors.numpy import save

import duplex
from duplex.checkpoints.checkpoint import resolve
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.layout import read_json
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.checkpoints.weights_file import read_header
from duplex.errors import CheckpointError, ConfigError, DuplexError, WeightsError

TINY = Path(duplex.__file__).parent / "models" / "tiny"
CONFIG, MIMI = ((TINY / name).read_text() for name in ("config.json", "mimi_config.json"))
WEIGHTS = save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.int64)}, {"format": "pt"})
HEADER = WEIGHTS[8 : 8 + int.from_bytes(WEIGHTS[:8], "little")].decode()
DATA = WEIGHTS[8 + len(HEADER) :]
SIZES = ["num_layers", "depformer_num_layers", "dim", "n_q", "dep_q", "card", "text_card", "context", "num_heads"]
SIZES += ["hidden_scale", "max_period", "depformer_dim", "existing_text_padding_id"]
SHAPES = [
    *("[-2,-3]", "[6.0]", "[true,6]", '["6"]', "[1e400]", "[NaN]", "[Infinity]", "6", "null", "[[6]]", "{}"),
    *("[" + ",".join(["1"] * 2000) + "]", "[" + ",".join([str(2**62)] * 64) + "]"),
    *(f"[{'9' * 30}]", f"[{'9' * 5000}]", f"[{2**63}]"),
]
STRANGE = [
    *("1e400", "Infinity", "-Infinity", "NaN", "9" * 5000, "1e308", "1e-320", "-1", "0", "1.5", "-0.0", "true", "null"),
    *(
        "9223372036854775807",
        "18446744073709551616",
        "1000000000",
        '"x"',
        "[]",
        "{}",
        "[" * 5000,
        '"\\ud800"',
        '"\\u0000"',
    ),
    "[1" + ",1" * 2000 + "]",
]


def header(tmp_path, text):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + DATA)
    return read_header(path)


def test_the_header_unchanged(tmp_path):
    assert header(tmp_path, HEADER).elements == {"F32": 6, "I64": 4}


@pytest.mark.parametrize(
    "shape",
    SHAPES,
    ids=lambda shape: shape[:20],
)
def test_a_shape_that_is_none(tmp_path, shape):
    with pytest.raises(WeightsError, match="its header is damaged"):
        header(tmp_path, HEADER.replace("[2,3]", shape))


@pytest.mark.parametrize(
    "offsets", ["[0,1e400]", f"[0,{'9' * 5000}]", "[24,0]", "[0]", "[0,12,24]", "[-24,0]", "[0,true]"]
)
def test_offsets_that_are_none(tmp_path, offsets):
    with pytest.raises(WeightsError, match="its header is damaged"):
        header(tmp_path, HEADER.replace("[0,24]", offsets).replace("[32,56]", offsets))


@pytest.mark.parametrize("metadata", ["[1]", '{"a":1}', '{"a":["b"]}', '"pt"', "5"])
def test_metadata_that_is_no_text(tmp_path, metadata):
    with pytest.raises(WeightsError, match="its header is damaged"):
        header(tmp_path, HEADER.replace('{"format":"pt"}', metadata))


def test_a_header_of_many_brackets(tmp_path):
    with pytest.raises(WeightsError):
        header(tmp_path, '{"a":' * 100_000)
    with pytest.raises(WeightsError, match="no safetensors file"):
        header(tmp_path, "{" + " " * 20_000_000 + "}")


@pytest.mark.parametrize(
    "value",
    [10**10, 10**400, 10**5000, 2**63, 1e300, float("inf"), float("nan"), True, -5],
    ids=lambda v: f"{v.bit_length()} bits" if type(v) is int else str(v),
)
@pytest.mark.parametrize(
    "key",
    SIZES,
)
def test_a_model_larger_than_any(key, value):
    with pytest.raises(ConfigError, match=rf"config\.json: .*'{key}'") as told:
        LanguageModelConfig.from_dict({**model_keys(), key: value}, where="config.json")
    assert len(str(told.value)) < 400


def model_keys():
    return {
        key: value for key, value in json.loads(CONFIG).items() if key in {"dim", "num_heads", "n_q", "dep_q", "delays"}
    }


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("seanet", "ratios", [1] * 5000),
        ("seanet", "ratios", [2**60] * 4),
        ("seanet", "dilation_base", 10**6),
        ("seanet", "n_residual_layers", 10**9),
        ("seanet", "kernel_size", 10**9),
        ("transformer", "num_layers", 10**9),
        ("transformer", "max_period", 10**400),
        ("quantizer", "n_q", 10**9),
        ("quantizer", "bins", 10**5000),
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, int) or value < 10**30 else "many digits",
)
def test_a_codec_larger_than_any(section, key, value):
    with pytest.raises(ConfigError, match=rf"mimi\.json: {section}: '{key}'"):
        MimiConfig.from_dict({section: {key: value}}, where="mimi.json")


@pytest.mark.parametrize(
    ("rate", "frames"), [(24000, 1e-9), (10**400, 12.5), (24000, 1e-320), (10**6, 1e-6), (2**20, 0.5)]
)
def test_a_frame_longer_than_any(rate, frames):
    with pytest.raises(ConfigError, match=r"mimi\.json: .*(frame_rate|sample_rate)"):
        MimiConfig.from_dict({"sample_rate": rate, "frame_rate": frames}, where="mimi.json")


@pytest.mark.parametrize("delays", [[2**40] * 17, [0] * 5000])
def test_delays_longer_than_any(delays):
    with pytest.raises(ConfigError, match=r"config\.json: .*'delays'"):
        LanguageModelConfig.from_dict({"delays": delays}, where="config.json")


@pytest.mark.parametrize(
    "name", ["x" * 5000 + ".safetensors", "a\0.safetensors", "\ud800.safetensors", "x" * 300 + ".safetensors"]
)
def test_names_that_no_file_has(folder, name):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"moshi_name": name}))
    with pytest.raises(CheckpointError, match=r"moshi_name|is missing|not valid JSON"):
        resolve(str(folder))


def test_a_configuration_that_does_not_end(tmp_path):
    (tmp_path / "config.json").write_bytes(b"[" * 5_000_000)
    with pytest.raises(ConfigError, match="longer than"):
        read_json(tmp_path / "config.json", "config.json")


def mutated(text, rng):
    """Return a JSON text with one or two of its values replaced by something strange."""
    for _ in range(rng.randint(1, 2)):
        place = rng.choice(list(re.finditer(r'-?\d+(\.\d+)?|true|false|null|"[^"]*"', text)) or [re.match("", text)])
        text = text[: place.start()] + rng.choice(STRANGE) + text[place.end() :]
    return text


@pytest.mark.parametrize("seed", range(60))
def test_strange_values_anywhere(tmp_path, seed):
    """Whatever stands where, all that comes out is an error of this package."""
    rng = random.Random(seed)  # noqa: S311 -- the same in each run
    for kind, text in ((LanguageModelConfig, CONFIG), (MimiConfig, MIMI)):
        (tmp_path / "config.json").write_text(mutated(text, rng))
        try:
            values = read_json(tmp_path / "config.json", "config.json")
            kind.from_dict({key: value for key, value in values.items() if "name" not in key}, where="config.json")
        except ConfigError as error:
            assert len(str(error)) < 1000  # noqa: PT017 -- some are taken
    try:
        assert sum(header(tmp_path, mutated(HEADER, rng)).elements.values()) <= 10
    except DuplexError as error:
        assert isinstance(error, WeightsError)  # noqa: PT017
