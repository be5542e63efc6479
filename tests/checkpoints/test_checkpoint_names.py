"""Names of checkpoints, and what is told of one without loading it."""

import json
import subprocess
import sys

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

import duplex.checkpoints.sources
from duplex.checkpoints.checkpoint import builtin_names, describe, resolve
from duplex.errors import CheckpointError, CheckpointNotFoundError, UsageError


def test_built_in_names_come_first(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(duplex.checkpoints.sources, "_builtin_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unfinished").mkdir()
    assert builtin_names() == ["model"]
    assert describe("model").kind == "built in"
    assert resolve("model").weights == folder / "model.safetensors"
    assert describe("./model").kind == "folder"
    with pytest.raises(CheckpointNotFoundError, match="built in: model"):
        resolve("mode")


def test_names_come_from_the_package():
    assert isinstance(builtin_names(), list)


@pytest.mark.parametrize(
    "name", ["", " ", "nothing", "./nothing", "/no/such/folder", "~nobody-here/x", "a/b/c", "a\0b"]
)
def test_names_that_are_nothing(name):
    for call in (resolve, describe):
        with pytest.raises(CheckpointNotFoundError, match="there is no model or folder"):
            call(name)


def test_a_very_long_name():
    with pytest.raises(CheckpointNotFoundError):
        resolve("a" * 5000)


def test_a_file_is_no_checkpoint(folder):
    with pytest.raises(CheckpointNotFoundError, match="is a file; give the folder"):
        resolve(str(folder / "model.safetensors"))


def test_only_repositories_have_revisions(folder):
    with pytest.raises(UsageError, match="revision"):
        resolve(str(folder), revision="main")


def test_describe(folder):
    description = describe(str(folder))
    assert description.kind == "folder"
    facts = json.loads(json.dumps(description.as_json()))
    assert facts["model_type"] == "moshi"
    model, codec = facts["model"], facts["codec"]
    assert (model["layers"], model["dimension"], model["heads"]) == (2, 64, 4)
    assert (model["agent_streams"], model["user_streams"], model["codebooks"]) == (2, 2, 2)
    assert (model["delays"], model["context_seconds"]) == ([0, 0, 1, 0, 1], 1.6)
    assert model["tokenizer_pieces"] >= 256
    assert model["sampling"] == {
        "temperature": 0.5,
        "text_temperature": 0.4,
        "top_k": 10,
        "text_top_k": 5,
        "guidance": 1.0,
    }
    assert model["weights"]["parameters"] == {"F32": 35000, "F16": 3}
    assert model["weights"]["total_bytes"] == 140006
    assert (codec["sample_rate"], codec["frame_rate"], codec["frame_size"]) == (24000, 12.5, 1920)
    assert (codec["codebooks"], codec["codebook_size"]) == (4, 16)


def test_describe_a_damaged_tokenizer(folder):
    (folder / "spm.model").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="sentencepiece"):
        describe(str(folder))


def test_importing_takes_no_library():
    code = (
        "import sys, duplex.checkpoints.checkpoint, duplex.checkpoints.tokenizer, duplex.conversation.transcript;"
        "print([m for m in ('torch', 'mlx', 'huggingface_hub', 'safetensors', 'sentencepiece') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
