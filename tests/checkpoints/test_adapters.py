"""How adapters are found and named, what is told of them, and how each that does not fit is refused, unread."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hub_support import FIRST, REPOSITORY, hub  # noqa: F401
from safetensors.numpy import save_file

from cli_support import SMALL, noise, write_wav
from cli_support import run as duplex_command
from duplex.checkpoints.checkpoint import describe, resolve
from duplex.checkpoints.weights_file import read_header
from duplex.errors import CheckpointError, CheckpointNotFoundError, ConfigError, WeightsError

ADAPTER = Path(__file__).parents[1] / "data" / "family" / "lora"
MODULE = "transformer.layers.0.gating.linear_in"
UNADAPTED = "993fed6eda9087bb"
"""The fingerprint of the reference checkpoint since before there were adapters: states hold it."""


def config(**changes):
    values = json.loads((ADAPTER / "config.json").read_text()) | changes
    return json.dumps({key: value for key, value in values.items() if value is not None})


def pair(module=MODULE, rank=4, inputs=64, outputs=352):
    return {
        f"{module}.lora_A.weight": np.full((rank, inputs), 0.1, np.float32),
        f"{module}.lora_B.weight": np.full((outputs, rank), 0.1, np.float32),
    }


@pytest.fixture
def written(tmp_path):
    """Writes an adapter of some tensors, with its configuration."""

    def write(tensors, **changes):
        folder = tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        save_file(tensors, folder / "lora.safetensors")
        (folder / "config.json").write_text(config(**changes))
        return str(folder)

    return write


@pytest.mark.parametrize("name", [ADAPTER, ADAPTER / "lora.safetensors"], ids=["folder", "file"])
def test_names(name):
    found = resolve(SMALL, adapter=str(name)).adapter
    assert found.path == ADAPTER / "lora.safetensors"
    assert found.info.ranks == (4,)
    assert found.info.scaling == 1.5
    assert found.pinned == str(name)
    assert len(found.info.changes) == 41


def test_a_file_without_a_configuration_has_the_published_scaling(tmp_path):
    shutil.copyfile(ADAPTER / "lora.safetensors", tmp_path / "mine.safetensors")
    assert resolve(SMALL, adapter=str(tmp_path / "mine.safetensors")).adapter.info.scaling == 2.0


def test_a_merged_fine_tune(tmp_path):
    """All weights of a model, as moshi-finetune saves them when it merges: everything is replaced."""
    shutil.copyfile(Path(SMALL) / "model.safetensors", tmp_path / "consolidated.safetensors")
    info = describe(SMALL, adapter=str(tmp_path)).adapter
    assert info.ranks == ()
    assert info.as_json()["replaced"] == len(info.changes) == len(read_header(Path(SMALL) / "model.safetensors"))


def test_the_fingerprint_covers_it(written):
    plain = resolve(SMALL)
    assert plain.adapter is None
    assert plain.fingerprint.startswith(UNADAPTED)
    adapted = {
        resolve(SMALL, adapter=name).fingerprint
        for name in (str(ADAPTER), written(pair()), str(ADAPTER / "embeddings.safetensors"))
    }
    assert len({plain.fingerprint, *adapted}) == 4
    assert resolve(SMALL, adapter=written(pair(), lora_scaling=3.0)).fingerprint not in adapted


def test_repositories(hub):
    """By name, by commit, by file, and as a checkpoint that names its base; to tell what it is, headers are enough."""
    base = {path.name: path.read_bytes() for path in Path(SMALL).iterdir() if path.name != "expected.safetensors"}
    hub.add(base, repository="somebody/base")
    lora = (ADAPTER / "lora.safetensors").read_bytes()
    hub.add({"config.json": config().encode(), "lora.safetensors": lora}, repository="somebody/lora")
    own = json.loads(base["config.json"]) | {"lora_name": "lora.safetensors", "lora_scaling": 1.5}
    for key in ("moshi_name", "mimi_name", "tokenizer_name", "mimi_config_name"):
        own[key] = f"hf://somebody/base/{own[key]}"
    hub.add({"config.json": json.dumps(own).encode(), "lora.safetensors": lora}, repository="somebody/whole")
    assert describe("somebody/base", adapter="somebody/lora").adapter.revision == FIRST
    assert not [path for method, path in hub.requests if method == "GET" and "model.safetensors" in path][1:]
    hub.requests.clear()
    found = resolve("somebody/base", adapter="somebody/lora")
    assert hub.downloads()[-3:] == ["lora.safetensors", base_mimi(base), "model.safetensors"]
    assert found.adapter.pinned == f"somebody/lora@{FIRST}"
    names = (found.adapter.pinned, "hf://somebody/lora/lora.safetensors")
    for same in (*(resolve("somebody/base", adapter=name) for name in names), resolve("somebody/whole")):
        assert same.fingerprint == found.fingerprint


def base_mimi(files):
    return next(name for name in files if name.startswith("tokenizer-"))


def test_duplex_info_and_process(tmp_path):
    told = duplex_command("info", SMALL, "--adapter", str(ADAPTER))
    assert "rank 4, scaling 1.5, to 41 matrices; 33 k numbers (BF16), 66 kB" in " ".join(told.out.split())
    shown = json.loads(duplex_command("info", SMALL, "--adapter", str(ADAPTER), "--json").out)
    assert shown["adapter"]["ranks"] == [4]
    assert json.loads(duplex_command("info", SMALL, "--json").out)["adapter"] is None
    sound = tmp_path / "user.wav"
    write_wav(sound, noise(0.5))
    runs = []
    for options in ((), ("--adapter", str(ADAPTER)), ("--adapter", str(ADAPTER))):
        outcome = duplex_command("process", str(sound), "--model", SMALL, "--out", str(tmp_path / "out"), *options)
        runs.append((outcome.status, json.loads(next(tmp_path.glob("out/*/run.json")).read_text())))
    assert [status for status, _ in runs] == [0, 0, 0]
    assert "adapter" not in runs[0][1]
    assert runs[1][1]["adapter"] == str(ADAPTER)
    assert "(finished before)" in outcome.out


BAD = [
    (pair(inputs=32), {}, r"'.*lora_A.weight' is \[4, 32\] and '.*' \[352, 4\], which does not fit .* \[352, 64\]"),
    (pair(outputs=88), {}, "does not fit the model's"),
    (pair(rank=8), {}, "is of rank 8, but its configuration has 'lora_rank' 4"),
    (pair(rank=8) | pair("text_linear", 4, 64, 96), {"lora_rank": None}, None),
    ({name: value for name, value in pair().items() if "lora_A" in name}, {}, "but lacks '.*linear_in.lora_B.weight'"),
    ({name: value for name, value in pair().items() if "lora_B" in name}, {}, "but lacks '.*linear_in.lora_A.weight'"),
    (pair("transformer.layers.7.gating.linear_in"), {}, "for which the model has no matrix"),
    (pair("text_emb", 4, 64, 97), {}, "for which the model has no matrix"),
    (pair("transformer.layers.0.norm1"), {}, "for which the model has no matrix"),
    (pair("base_model.model." + MODULE), {}, "an adapter in the published layout"),
    ({"emb.9.weight": np.zeros((65, 64), np.float32)}, {}, "for which the model has no tensor"),
    ({"emb.0.weight": np.zeros((65, 32), np.float32)}, {}, r"'emb.0.weight' is \[65, 32\], but the model's"),
    ({"emb.0.weight": np.zeros((65, 64), np.int8)}, {}, "'emb.0.weight' is I8"),
    ({}, {}, "there is no tensor in it"),
    (pair("depformer.layers.0.self_attn.in_projs.4", 4, 32, 96), {}, "does not fit"),
    (
        pair("depformer.layers.0.self_attn.in_projs.0", 4, 32, 96)
        | pair("depformer.layers.0.self_attn.in_proj", 16, 32, 384),
        {"lora_rank": None},
        "does not fit|the same adapter twice",
    ),
    (pair(), {"dim": 128}, "its configuration has 'dim' 128, and the model's is 64"),
    (pair(), {"num_heads": 8}, "its configuration has 'num_heads' 8"),
    (pair(), {"lora_rank": "four"}, "'lora_rank' is 'four'"),
    (pair(), {"lora_scaling": -1}, "'lora_scaling' is -1"),
    (pair(), {"lora_name": "elsewhere.safetensors"}, "the adapter 'elsewhere.safetensors' is missing"),
    (pair(), {"lora_name": "../lora.safetensors"}, "give a file of the checkpoint"),
]


@pytest.mark.parametrize(("tensors", "changes", "match"), BAD)
def test_what_does_not_fit(written, tensors, changes, match):
    adapter = written(tensors, **changes)
    if match is None:
        assert resolve(SMALL, adapter=adapter).adapter.info.ranks == (4, 8)
        return
    for look in (resolve, describe):
        with pytest.raises((ConfigError, WeightsError, CheckpointNotFoundError), match=match):
            look(SMALL, adapter=adapter)
    outcome = duplex_command("info", SMALL, "--adapter", adapter)
    assert outcome.status == 1
    outcome.only_error()


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("", "there is no adapter ''"),
        ("nowhere", "there is no adapter 'nowhere'"),
        ("nowhere.safetensors", "give a .safetensors file"),
        ("{folder}", "there is no adapter in it; lora.safetensors or"),
        ("{folder}/adapter.bin", "is no .safetensors file"),
        ("{folder}/cut.safetensors", "cut short"),
        ("{folder}/pickle.safetensors", "a zip archive"),
    ],
)
def test_what_is_no_adapter(tmp_path, name, match):
    (tmp_path / "adapter.bin").write_bytes(b"PK\x03\x04" + bytes(99))
    (tmp_path / "pickle.safetensors").write_bytes(b"PK\x03\x04" + bytes(99))
    (tmp_path / "cut.safetensors").write_bytes((ADAPTER / "lora.safetensors").read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=match):
        resolve(SMALL, adapter=name.format(folder=tmp_path))


def test_an_adapter_in_the_layout_of_peft(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointNotFoundError, match="layout of PEFT"):
        resolve(SMALL, adapter=str(tmp_path))


def test_an_adapter_given_as_a_model():
    with pytest.raises(CheckpointNotFoundError, match="a fine-tune without the model that it was trained on"):
        resolve(str(ADAPTER))


def test_a_checkpoint_whose_own_is_missing(tmp_path):
    folder = shutil.copytree(SMALL, tmp_path / "model")
    mapping = json.loads((folder / "config.json").read_text()) | {"lora_name": "lora.safetensors", "lora": True}
    (folder / "config.json").write_text(json.dumps(mapping))
    with pytest.raises(CheckpointNotFoundError, match=r"'lora\.safetensors' is missing"):
        resolve(str(folder))
    assert resolve(str(folder), parts=("codec",)).adapter is None
    assert resolve(str(folder), adapter=str(ADAPTER)).adapter is not None
